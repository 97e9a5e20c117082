import pytest

from app.payload import allocator


def test_a_system_without_these_functions_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        def __init__(self, name: None) -> None:
            pass

    monkeypatch.setattr(allocator.ctypes, "CDLL", Library)
    allocator.return_large_blocks()
    allocator.return_free_pages()
