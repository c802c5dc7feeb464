"""The client works where neither engines nor servers are installed."""

from __future__ import annotations

import subprocess
import sys

ALLOWED = ("numpy", "PIL", "semseg")

PROGRAM = """
import sys
import sysconfig

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {allowed!r} and name.partition(".")[0] not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"{{name}} is blocked", name=name)

sys.meta_path.insert(0, Blocked())
import io
import numpy as np
from semseg.client import Client

class Runtime:
    def invoke_endpoint(self, **arguments):
        from PIL import Image
        with Image.open(io.BytesIO(arguments["Body"])) as image:
            ids = np.asarray(image)[..., 0] // 128
        file = io.BytesIO()
        Image.fromarray(ids).save(file, "PNG")
        return {{"Body": io.BytesIO(file.getvalue()), "ContentType": "image/png"}}

image = np.arange(0, 240, 5, np.uint8).repeat(3).reshape(6, 8, 3)
found = Client(Runtime(), "cats").predict(image, accept="image/png")
assert found.mask.tolist() == (image[..., 0] // 128).tolist()
assert found.overlay().shape == (6, 8, 3)
roots = {{name.partition(".")[0] for name in sys.modules}}
print(sorted(roots - sys.stdlib_module_names - set({allowed!r}) - {{"__main__"}}))
"""


def test_numpy_and_pillow_suffice_for_an_endpoint() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(allowed=ALLOWED)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    foreign = [name for name in done.stdout.split("'") if name.isidentifier() and not name.startswith("_")]
    assert not set(foreign) & {"mxnet", "torch", "gluoncv", "flask", "boto3", "requests", "simplejpeg"}
