import base64
import hashlib

from app.headers import page_headers


def policy_of(html: str) -> dict[str, str]:
    policy = page_headers(html)["Content-Security-Policy"]
    return dict(directive.split(" ", 1) for directive in policy.split("; "))


def hash_of(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_each_inline_block_is_admitted_by_the_hash_of_exactly_its_text() -> None:
    script, style = "\n  if (1 < 2 && 'é') { a('&amp;</b>') }\n", "\n body { color: red } "
    html = f"<html><style>{style}</style><p>text</p><script>{script}</script><script>two()</script></html>"
    policy = policy_of(html)
    assert policy["script-src"] == f"{hash_of(script)} {hash_of('two()')}"
    assert policy["style-src"] == hash_of(style)


def test_a_page_without_scripts_may_run_none() -> None:
    policy = policy_of("<p onclick='evil()'>text</p>")
    assert policy["script-src"] == policy["style-src"] == policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
