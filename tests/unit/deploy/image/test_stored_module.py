from pathlib import Path

import pytest

from deploy.image.stored_module import main


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    (folder / "driver.c").write_text("int one;")
    (folder / "cuda_utils.so").write_bytes(b"module")
    return folder


def test_the_source_that_was_compiled_gives_the_module(store: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "main.c", tmp_path / "cuda_utils.cpython.so"
    source.write_text("int one;")
    main([str(source), "-O3", "-shared", "-fPIC", "-o", str(output), "-l:libcuda.so.1"], store)
    assert output.read_bytes() == b"module"


def test_another_source_is_refused_by_name(store: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "other.c", tmp_path / "other.so"
    source.write_text("int two;")
    with pytest.raises(SystemExit, match=r"no compiler, and .*other\.c is not"):
        main([str(source), "-o", str(output)], store)
    assert not output.exists()


@pytest.mark.parametrize("arguments", [[], ["--version"], ["x.c"], ["x.c", "-o"]])
def test_anything_else_is_refused(store: Path, arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="no compiler"):
        main(arguments, store)
