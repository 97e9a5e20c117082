"""Plays a month of a gate against a real server, and prints the figures: docs/running.md tells what they mean.

Week 1, shadow mode: what would be refused, and the live rates from a labelled random sample. Week 2: a new camera,
drift, and a false-positive rate far above the promise. Week 3: a threshold set anew on the sample, as a candidate
beside the artifact that serves. Week 4: the candidate is promoted without a restart. Writes build/month/.
"""

import hashlib
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2

from app.detection.artifact import load_artifact
from examples.month.traffic import Camera, Sent, new_camera
from testing.servers import Server, wait_until

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / "build" / "month"
ARTIFACT = ROOT / "model_artifacts" / "circles"
CURRENT, RECALIBRATED, PID_FILE = BUILD / "current", BUILD / "recalibrated", BUILD / "gate.pid"
IMAGES_A_WEEK = 500
SAMPLE = 0.6
# A smaller promise takes a larger sample than a minute has.
RATE = 0.02


def main() -> None:
    started = time.monotonic()
    shutil.rmtree(BUILD, ignore_errors=True)
    BUILD.mkdir(parents=True)
    CURRENT.symlink_to(ARTIFACT)
    camera = new_camera(load_artifact(ARTIFACT), seed=2)
    first_week()
    second_week(camera)
    rates = third_and_fourth_week(camera)
    print(f"\nA month in {time.monotonic() - started:.0f} seconds.")
    if not rates["false_positive_rate"]["low"] <= RATE:
        raise SystemExit("The recalibrated gate does not keep its promise.")


def first_week() -> None:
    heading("Week 1: shadow mode. Everything passes, and what would be refused is kept.")
    kept = BUILD / "kept-1"
    with Server(**settings(kept, mode="shadow")) as server, server.client() as client:
        truth = send(client, Camera(seed=1).take(IMAGES_A_WEEK), "/v1/authz/classify")
        print(f"{verdicts(client)['anomaly']} of {IMAGES_A_WEEK} images would be refused.")
        print_rates(review(client, truth))


def second_week(camera: Camera) -> None:
    heading(f"Week 2: enforced, and a new camera, whose corners are {camera.darkening:.1%} darker.")
    with Server(**settings(BUILD / "kept-2")) as server, server.client() as client:
        truth = send(client, camera.take(IMAGES_A_WEEK))
        print(f"{verdicts(client)['anomaly']} of {IMAGES_A_WEEK} images are refused.")
        evidence = metric(client, "gate_drift_evidence_log10")
        print(f"Evidence of drift: 10^{evidence:.1f} (the alert rule asks for 10^6).")
        print_rates(review(client, truth))


def third_and_fourth_week(camera: Camera) -> dict[str, Any]:
    heading("Week 3: the threshold is set anew on the random sample, less its anomalies, and judges aside.")
    run("recalibrate", str(CURRENT), "--kept", str(BUILD / "kept-2"), "--output", str(RECALIBRATED),
        "--target-false-positive-rate", str(RATE))  # fmt: skip
    kept = BUILD / "kept-3"
    gate = settings(kept, candidate=RECALIBRATED, pid_file=PID_FILE)
    with Server(**gate) as server, server.client() as client:
        truth = send(client, camera.take(IMAGES_A_WEEK))
        print_pairs(client)
        review(client, truth)
        run("compare", str(CURRENT), str(RECALIBRATED), "--kept", str(kept), "--output", str(BUILD / "comparison"))
        heading("Week 4: the candidate is promoted: a link, and `reload`.")
        (BUILD / "next").symlink_to(RECALIBRATED)
        (BUILD / "next").rename(CURRENT)
        run("reload", "--pid-file", str(PID_FILE))
        server.wait_for_line("artifact reloaded")
        before = verdicts(client)["anomaly"]
        truth = send(client, camera.take(IMAGES_A_WEEK))
        print(f"{verdicts(client)['anomaly'] - before} of {IMAGES_A_WEEK} images are refused.")
        rates = review(client, truth)
        print_rates(rates)
        return rates


def settings(kept: Path, **more: object) -> dict[str, Any]:
    return {"artifact": CURRENT, "keep_folder": kept, "keep_sample": SAMPLE, "log_level": "info", **more}


def send(client: httpx2.Client, pictures: Any, route: str = "/v1/predict?reconstruction=none") -> dict[str, bool]:
    """Sends pictures; gives the truth about each by its hash, as a person would know it at a look."""
    truth = {}
    one: Sent
    for one in pictures:
        answer = client.post(route, content=one.content, headers={"Content-Type": "image/png"})
        assert answer.status_code == 200, answer.text
        truth[hashlib.sha256(one.content).hexdigest()] = one.belongs
    return truth


def review(client: httpx2.Client, truth: dict[str, bool]) -> dict[str, Any]:
    """Labels the random sample, as a person does in /review; gives the live rates."""
    before = None
    wait_until(lambda: bool(client.get("/v1/kept?limit=1").json()["kept"]))
    time.sleep(0.5)  # what waits to be written
    while True:
        query = {"sampled": "true", "label": "none", "limit": 500} | ({"before": before} if before else {})
        rows = client.get("/v1/kept", params=query).json()["kept"]
        for row in rows:
            content = client.get(f"/v1/kept/{row['id']}/image").content
            belongs = truth.get(hashlib.sha256(content).hexdigest())
            if belongs is not None:
                label = {"label": "normal" if belongs else "anomaly"}
                client.put(f"/v1/kept/{row['id']}/label", json=label).raise_for_status()
        if not rows:
            rates: dict[str, Any] = client.get("/v1/kept/rates").json()
            return rates
        before = rows[-1]["id"]


def print_rates(rates: dict[str, Any]) -> None:
    print(f"Reviewed: {rates['labelled']} images of the random sample.")
    for name, words in (("false_positive_rate", "false-positive rate"), ("detection_rate", "detection rate")):
        one = rates[name]
        estimate = "unknown" if one["estimate"] is None else f"{one['estimate']:.1%}"
        print(f"    {words} {estimate}, between {one['low']:.1%} and {one['high']:.1%} ({one['images']} images)")


def print_pairs(client: httpx2.Client) -> None:
    """Both verdicts, once the candidate has judged everything."""
    pattern = r'^gate_candidate_verdicts_total\{candidate_verdict="(\w+)",verdict="(\w+)"\} (\S+)$'

    def pairs() -> list[tuple[str, str, str]]:
        return re.findall(pattern, client.get("/metrics").text, re.MULTILINE)

    wait_until(lambda: sum(float(count) for *_, count in pairs()) >= IMAGES_A_WEEK, 20)
    for candidate, verdict, count in sorted(pairs(), key=lambda pair: pair[1]):
        print(f"    {verdict:<8} candidate {candidate:<8} {float(count):5.0f}")


def verdicts(client: httpx2.Client) -> dict[str, int]:
    found = re.findall(r'^gate_verdicts_total\{verdict="(\w+)"\} (\S+)$', client.get("/metrics").text, re.MULTILINE)
    return {verdict: int(float(count)) for verdict, count in found}


def metric(client: httpx2.Client, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    assert found, name
    return float(found[1])


def run(*arguments: str) -> None:
    print(f"\n$ python -m app {' '.join(argument.replace(f'{ROOT}/', '') for argument in arguments)}", flush=True)
    ran = subprocess.run(
        [sys.executable, "-m", "app", *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    )
    print(ran.stdout.replace(f"{ROOT}/", ""), end="", flush=True)


def heading(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


if __name__ == "__main__":
    main()
