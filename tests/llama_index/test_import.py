"""Without its framework the adapter names the pip line."""

import subprocess
import sys

CODE = """
import sys
sys.modules["llama_index"] = None
try:
    import llama_index_tryage
except ImportError as error:
    print(type(error).__name__, error)
"""


def test_a_missing_extra_is_named():
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("MissingExtraError")
    assert 'pip install "tryage[llama-index]"' in run.stdout
