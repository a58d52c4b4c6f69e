"""What ``import sparse_rt`` gives."""

import subprocess
import sys

import pytest

import sparse_rt as srt


@pytest.mark.parametrize(
    "imports",
    [
        "import sparse_rt as srt",
        "import sparse_rt.verify\nimport sparse_rt as srt",
        "from sparse_rt.verify import VerifyReport\nimport sparse_rt as srt",
        "import sparse_rt.prune\nimport sparse_rt as srt\nfrom sparse_rt.prune import prune_model",
        "from sparse_rt import verify, prune\nimport sparse_rt as srt",
    ],
)
def test_functions_named_like_their_module_are_functions(imports):
    code = f"{imports}\nimport inspect\nassert all(map(inspect.isfunction, (srt.verify, srt.prune)))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_every_public_name_can_be_imported():
    for name in srt.__all__:
        assert getattr(srt, name) is not None
    assert set(srt.__all__) <= set(dir(srt))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = srt.nothing
