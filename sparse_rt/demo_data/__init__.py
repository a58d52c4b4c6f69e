"""The models and the held-out images of ``sparse-rt demo``, committed as made by ``examples/train_digits.py``.

The images are 500 of the 1797 scans that scikit-learn ships as ``load_digits``, from "Optical Recognition of
Handwritten Digits" (E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998,
https://doi.org/10.24432/C50P49, CC BY 4.0).
"""

from importlib.resources import files

import numpy as np
import numpy.typing as npt

__all__ = [
    "DENSE_MODEL",
    "SPARSE_MODEL",
    "SPARSE_INT8_MODEL",
    "MODELS",
    "TEST_IMAGES",
    "read_model",
    "load_test_images",
    "scale_images",
]

DENSE_MODEL = "digits_dense.onnx"
SPARSE_MODEL = "digits_2to4.onnx"
SPARSE_INT8_MODEL = "digits_2to4_int8.onnx"
MODELS = (DENSE_MODEL, SPARSE_MODEL, SPARSE_INT8_MODEL)
TEST_IMAGES = "digits_test.npz"


def read_model(name: str) -> bytes:
    """Return the bytes of the ONNX file `name`, one of :data:`MODELS`.

    Each model maps ``image`` float32 (batch, 1, 8, 8), as :func:`scale_images` makes it, to ``logits`` float32
    (batch, 10).

    Raises
    ------
    FileNotFoundError
        If there is no such file in this package.
    """
    return files(__name__).joinpath(name).read_bytes()


def load_test_images() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return the held-out images, float32 (500, 1, 8, 8) in [0, 1], and their labels, int64 (500,)."""
    with files(__name__).joinpath(TEST_IMAGES).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return scale_images(arrays["images"]), arrays["labels"].astype(np.int64)


def scale_images(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return scans with grey levels 0..16 as the models want them: float32 in [0, 1]."""
    return np.divide(images, 16, dtype=np.float32)
