"""Runs a script of this folder with transformers 5, from the environment that `./test --oracle-5` makes; ends with 77 without.

    python3 scripts/oracle/with_transformers5.py check_parity.py --quick
"""
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PYTHON = HERE.parents[1] / ".venv-oracle5" / "bin" / "python"

if not PYTHON.exists():
    print("with_transformers5: skipped: no .venv-oracle5; ./test --oracle-5 makes it")
    sys.exit(77)
os.execv(PYTHON, [str(PYTHON), str(HERE / sys.argv[1]), *sys.argv[2:]])
