"""How stored weights are decoded in standard ONNX operators, one body a format.

What decodes a format is a file of its own and a line in :data:`DECODINGS`.
"""

from sparse_rt.formats import N2M4
from sparse_rt.graph.decode import n2m4
from sparse_rt.graph.decode.decoding import Decoding

__all__ = ["DECODINGS", "Decoding"]

DECODINGS: dict[str, Decoding] = {N2M4.name: n2m4.DECODING}
"""How each format is decoded, by the format's name."""
