"""Sessions of all tests but those of tuning run every layer that a sparse kernel fits on it: models here are tiny."""

import os

os.environ["SPARSE_RT_TUNING"] = "sparse"
