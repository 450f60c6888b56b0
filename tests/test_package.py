"""The package as others get it: what a wheel holds, and what an import does."""

import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parent.parent


def python(code, **options):
    """Runs code in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The names in a wheel that is built from a copy of the checkout."""
    pytest.importorskip("setuptools", "77")
    place = tmp_path_factory.mktemp("wheel")
    generated = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "runs", "site")
    shutil.copytree(ROOT, place / "checkout", ignore=generated)
    code = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(place)], cwd=place / "checkout", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (path,) = place.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def test_wheel_holds_the_package_and_nothing_else(wheel):
    held = {name for name in wheel if ".dist-info/" not in name}
    files = [path for path in (ROOT / "seqjax").rglob("*") if path.suffix == ".py" or path.name == "py.typed"]
    assert held == {path.relative_to(ROOT).as_posix() for path in files}
    assert "seqjax/py.typed" in held


def test_wheel_holds_the_licence(wheel):
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel)


def test_import_changes_no_setting_of_jax():
    code = "import jax; before = dict(jax.config.values); import seqjax; assert dict(jax.config.values) == before"
    python(code)


def test_import_starts_no_backend():
    # The number of devices can be set until a backend starts.
    python('import jax, seqjax; jax.config.update("jax_num_cpu_devices", 3); assert len(jax.devices("cpu")) == 3')


def test_import_loads_nothing_beyond_jax():
    with_jax, with_seqjax = (
        set(python(f"import sys, {package}; print(*(name.split('.')[0] for name in sys.modules))").split())
        for package in ("jax", "seqjax")
    )
    assert with_seqjax - with_jax - sys.stdlib_module_names == {"seqjax"}


def test_parts_are_loaded_when_they_are_used():
    python("import sys, seqjax as sj; assert 'flax' not in sys.modules; sj.nnx.RNN; assert 'flax' in sys.modules")
