"""Results -> the Markdown table in benchmarks/detection/detection.md."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.detection.pictures import ANOMALY_VARIANTS

BEGIN, END = "<!-- written by make bench-detection: begin -->", "<!-- end -->"
Results = Mapping[str, Any]
FOLDER_GOALS = {"letters": 0.8, "flags": 0.92, "threes": 0.91, "pages": 0.97, "digits of 8x8 pixels": 1.0}
GROUPS = {
    "tuning": "looked at while choosing",
    "final": "kept apart until the last choice of scales",
    "all": "both of these",
    "fresh": "never seen by anyone while choosing",
}


def render(results: Results) -> str:
    """The sections of all parts that have been run."""
    sections: dict[str, Callable[[Any], list[str]]] = {
        "circles": _circles,
        "timing": _timing,
        "folders": _folders,
        "clothes-one": partial(_one_class, "Fashion-MNIST, one class normal", "class"),
        "clothes-all": _all_clothes,
        "mnist-one": partial(_one_class, "MNIST, one digit normal", "digit"),
        "mnist-all": _all_digits,
    }
    lines = _goals(results) + _models(results)
    for part, section in sections.items():
        if part in results:
            lines += section(results[part])
    lines += _minutes(results)
    if "circles" in results:
        lines += _families(results["circles"])
    return "\n".join(lines).strip() + "\n"


def insert(page: Path, text: str) -> None:
    """Between the markers; the rest of the page is written by hand."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{text}{END}{after}")


def rows(titles: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table with figures on the right, and an empty line behind it."""
    rule = "|---|" + "---:|" * (len(titles) - 1)
    return [f"| {' | '.join(titles)} |", rule, *[f"| {' | '.join(row)} |" for row in body], ""]


def percent(found: Results) -> str:
    """A rate with its 95% interval."""
    low, high = found["interval"]
    return f"{found['rate']:.2%} ({low:.2%} to {high:.2%})"


def _goals(results: Results) -> list[str]:
    body = []

    def add(what: str, figure: float, goal: float, at_most: bool = False, form: str = ".4f") -> None:
        met = figure <= goal if at_most else figure >= goal
        sign = "<=" if at_most else ">="
        body.append((what, f"{figure:{form}}", f"{sign} {goal:g}", "yes" if met else "**no**"))

    if "circles" in results:
        found = results["circles"]
        ways = [own["rate"] for own in found["variants"].values()]
        add(f"circles, {len(ways)} exact ways within the kinds: refused on average", sum(ways) / len(ways), 0.015, True)
        add(f"circles, the worst of them ({found['worst']['variant']})", found["worst"]["rate"], 0.03, True)
        every = found["groups"]["all"]
        add(f"circles, detection of {every['families']} families, originals", every["detection"]["rate"], 0.98)
        by_way = every["detection_by_variant"].values()
        add(f"circles, detection, mean of {len(by_way)} ways", sum(by_way) / len(by_way), 0.95)
    for name, goal in FOLDER_GOALS.items():
        if name in results.get("folders", {}):
            found = _found(results["folders"][name], "imagegate", of_its_kind=False) or 0.0
            add(f"{name}: detection of other kinds of pictures", found, goal)
    for part, auroc, detection in (("clothes-one", 0.94, 0.62), ("mnist-one", 0.992, 0.85)):
        if part in results:
            mean = results[part]["mean"]
            add(f"{part}, mean of ten: AUROC", mean["auroc"], auroc)
            add(f"{part}, mean of ten: detection", mean["detection"], detection)
    if "clothes-all" in results:
        odd = results["clothes-all"]["odd"]
        add("clothes-all, digits odd: AUROC", odd["digits of MNIST"]["auroc"], 0.997)
        add("clothes-all, digits odd: detection", odd["digits of MNIST"]["detection"], 0.95)
        add("clothes-all, upside down: detection", odd["clothes upside down"]["detection"], 0.4)
    if "mnist-all" in results:
        every = results["mnist-all"]["groups"]["all"]
        add(f"mnist-all, {every['families']} families: AUROC", every["auroc"], 0.997)
        add(f"mnist-all, {every['families']} families: detection", every["detection"], 0.975)
    if "timing" in results:
        found = results["timing"]
        add("artifact, MB", found["bytes"]["in all"] / 1e6, 6, True, ".2f")
        add("graph, ms, batch 1", found["batch 1"]["median"], 0.25, True, ".3f")
        add("graph, ms an image, batch 32", found["batch 32"]["median"], 0.05, True, ".3f")
    return ["### Against the goals", "", *rows(("at a nominal 1%", "measured", "goal", "met"), body)]


def _parts(results: Results, part: str) -> list[tuple[str, Any]]:
    return [(name, found) for name, found in results.get(part, {}).items() if isinstance(found, dict)]


def _models(results: Results) -> list[str]:
    """Every model on the same circles and families."""
    named = [("imagegate, default artifact", results["circles"])] if "circles" in results else []
    named += [(f"imagegate, `--variants none`, {name}", found) for name, found in _parts(results, "strict")]
    named += [(f"tutorial's {name}", found) for name, found in _parts(results, "tutorial")]
    named += [(f"PyOD {name}", found) for name, found in _parts(results, "pyod")]
    if not named:
        return []
    body = []
    for name, found in named:
        every, fresh, worst = found["groups"]["all"], found["groups"]["fresh"], found["worst"]
        original = found["variants"]["original"]["rate"]
        figures = (every["auroc"], every["detection"]["rate"], every["resolvable"]["macro"], fresh["detection"]["rate"])
        own = f"{original:.2%}", f"{worst['rate']:.2%} ({worst['variant']})"
        body.append((name, *[f"{figure:.4f}" for figure in figures], *own))
    titles = ("model", "AUROC", "detection", "resolvable", "fresh", "false positives", "worst variant")
    return [
        "### Models on the same circles",
        "",
        "`original`: fitted and calibrated on circles sent as they were drawn. `variants`: calibrated for all variants "
        "(views and PyOD fitted on them too). The tutorial's and PyOD's false positives are of 1,000 circles each.",
        "",
        *rows(titles, body),
    ]


def _circles(found: Results) -> list[str]:
    groups = [
        (
            f"{name}: {GROUPS[name]}",
            str(group["families"]),
            f"{group['auroc']:.4f}",
            percent(group["detection"]),
            f"{group['resolvable']['macro']:.5f}",
            f"{group['resolvable']['missed']} of {group['resolvable']['images']:,}",
        )
        for name, group in ((name, found["groups"][name]) for name in GROUPS)
    ]
    titles = ("families", "number", "AUROC", "detection", "resolvable", "resolvable missed")
    by_variant = [
        (name, *[f"{found['groups'][name]['detection_by_variant'][way]:.4f}" for way in ANOMALY_VARIANTS])
        for name in GROUPS
    ]
    return [
        "### Circles, default artifact: detection",
        "",
        *rows(titles, groups),
        "The same anomalies sent in other ways:",
        "",
        *rows(("families", *ANOMALY_VARIANTS), by_variant),
        f"### Circles, default artifact ({found['artifact']}): false positives",
        "",
        *_rates("permitted variant", found["variants"]),
        "Drawn by matplotlib at another resolution, and ways of sending that nothing is promised for:",
        "",
        *_rates("for information", {**found["rendered"], **found["unlisted"]}),
    ]


def _rates(title: str, found: Results) -> list[str]:
    body = [(name, percent(own), f"{own['images']:,}") for name, own in found.items()]
    return rows((title, "false positives", "circles"), body)


def _timing(found: Results) -> list[str]:
    sizes = ", ".join(f"{name} {size / 1e6:.2f} MB" for name, size in found["bytes"].items())
    body = [
        (name, *[f"{found[name][way]:.3f}" for way in ("median", "fastest tenth", "median of work")])
        for name in found
        if name.startswith("batch")
    ]
    load = " / ".join(str(value) for value in found["load"])
    return [
        "### Size and time",
        "",
        f"{sizes}. The graph alone, one thread, {found['machine']}, load average {load}:",
        "",
        *rows(("ms an image", "median", "fastest tenth", "median of CPU time"), body),
    ]


def _found(own: Results, model: str, of_its_kind: bool) -> float | None:
    """Mean detection over the groups that are of the folder's own kind, such as other letters, or over all others."""
    groups = own["models"][model]["groups"].items()
    rates = [rate for group, rate in groups if (group in own["own"]) == of_its_kind]
    return sum(rates) / len(rates) if rates else None


def _compared(name: str, own: Results, models: Sequence[str], of_its_kind: bool) -> list[tuple[str, ...]]:
    """A row of the table, or none where there are no such groups."""
    figures = [_found(own, model, of_its_kind) for model in models]
    known = [figure for figure in figures if figure is not None]
    if not known:
        return []
    cells = [f"**{figure:.3f}**" if figure == max(known) else f"{figure:.3f}" for figure in known]
    return [(f"{name}, {own['promised']:.0%}{': others of its kind' if of_its_kind else ''}", *cells)]


def _folders(found: Results) -> list[str]:
    """Other people's pictures, beside simple models."""
    folders = {name: own for name, own in found.items() if isinstance(own, dict)}
    models = list(dict.fromkeys(model for own in folders.values() for model in own["models"]))
    body, training = [], []
    for name, own in folders.items():
        body += [row for of_its_kind in (False, True) for row in _compared(name, own, models, of_its_kind)]
        gate, counts = own["models"]["imagegate"], own["images"]
        training.append(
            (
                name,
                f"{sum(counts.values()):,}",
                percent(gate["false positives"]),
                f"{gate['worst variant']:.1%}",
                f"{gate['auroc']:.4f}",
                f"{own['training']['of CPU time']}",
                own["power"]["verdict"],
            )
        )
    groups = [
        f"- {name}: " + ", ".join(f"{group} {rate:.2f}" for group, rate in own["models"]["imagegate"]["groups"].items())
        for name, own in folders.items()
    ]
    titles = ("folder", "images", "false positives", "worst variant", "AUROC", "CPU seconds of training", "it says")
    return [
        "### Folders of other people's pictures: detection, mean over groups of odd pictures",
        "",
        "Each model is calibrated for all kinds of sending by the same split and rule.",
        "",
        *rows(("folder, promised rate", *models), body),
        *rows(titles, training),
        "What the gate finds, by group:",
        "",
        *groups,
        "",
    ]


def _all_clothes(found: Results) -> list[str]:
    body = [(name, f"{own['auroc']:.4f}", f"{own['detection']:.4f}") for name, own in found["odd"].items()]
    return [
        "### Fashion-MNIST, all clothes normal",
        "",
        f"False positives on the 10,000 test images: {percent(found['false_positives'])}.",
        "",
        *rows(("odd", "AUROC", "detection"), body),
    ]


def _one_class(title: str, what: str, found: Results) -> list[str]:
    body = [
        (digit, f"{own['auroc']:.4f}", f"{own['detection']:.4f}", percent(own["false_positives"]))
        for digit, own in found["digits"].items()
    ]
    mean = found["mean"]
    body.append(
        ("**mean**", f"{mean['auroc']:.4f}", f"{mean['detection']:.4f}", f"{mean['false_positives']:.2%}"),
    )
    return [f"### {title}", "", *rows((what, "AUROC", "detection", "false positives"), body)]


def _all_digits(found: Results) -> list[str]:
    body = [
        (name, str(own["families"]), f"{own['auroc']:.4f}", f"{own['detection']:.4f}")
        for name, own in found["groups"].items()
    ]
    weakest = sorted((own["detection"], name) for name, own in found["families"].items())[:15]
    return [
        "### MNIST, all digits normal",
        "",
        f"False positives on the 10,000 test digits: {percent(found['false_positives'])}.",
        "",
        *rows(("families", "number", "AUROC", "detection"), body),
        "Weakest: " + ", ".join(f"{name} {rate:.2f}" for rate, name in weakest) + ".",
        "",
    ]


def _minutes(results: Results) -> list[str]:
    body = [(part, f"{found['minutes']:.1f}", f"{found['minutes_of_work']:.1f}") for part, found in results.items()]
    note = "Pictures are drawn once and kept: the first part that needs them takes about five minutes more than this."
    return ["### What each part takes", "", note, "", *rows(("part", "minutes", "of CPU time"), body)]


def _families(found: Results) -> list[str]:
    body = []
    for name, own in sorted(found["families"].items(), key=lambda item: item[1]["detection"]["original"]):
        apart = own["resolvable"]
        figures = [f"{own['detection'][way]:.3f}" for way in ANOMALY_VARIANTS]
        clear = f"{apart['rate']:.3f} of {apart['images']}" if apart else "none"
        body.append((name, own["group"], f"{own['auroc']:.4f}", *figures, clear))
    return [
        "### Appendix: every family, default artifact",
        "",
        *rows(("family", "group", "AUROC", *ANOMALY_VARIANTS, "resolvable"), body),
    ]
