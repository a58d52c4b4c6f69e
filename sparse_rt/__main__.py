"""``python -m sparse_rt`` is ``sparse-rt``."""

from sparse_rt.cli.main import app

if __name__ == "__main__":
    app(prog_name="sparse-rt")
