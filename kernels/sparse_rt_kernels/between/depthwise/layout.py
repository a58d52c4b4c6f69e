"""How a plane is laid out for a depthwise convolution: padded, with the rows and columns of a stride apart.

Lanes run over a whole plane, not over one row, so that narrow planes fill vectors, too: output pixel (p, q) is number
``f = p * row + q`` of a flat range, `row` being the padded row's pitch over the column stride. What a tap reads for it
lies at a fixed offset plus f items (plus `step` x f where columns stay together). Pixels of a row beyond the output's
width are computed, too, and left out when rows are copied to the output.
"""

from dataclasses import dataclass

from sparse_rt_kernels.product.geometry import ConvGeometry

__all__ = ["BLOCK", "Layout"]

#: Output pixels that are computed at a time.
BLOCK = 64


@dataclass(frozen=True, slots=True)
class Layout:
    """A padded plane in scratch memory, in items.

    Row i of the padded input is row ``i // phases`` of part ``i % phases``; `phases` is the row stride times the output
    rows that are computed together. If columns are separated, the whole is then dealt out in turn to as many parts as
    the column stride has columns.

    Attributes
    ----------
    geometry
        Of the convolution.
    together
        Output rows that are computed together because they read the same input rows.
    is_separated
        Whether columns of a stride lie apart, so that neighbouring pixels read neighbouring items.
    """

    geometry: ConvGeometry
    together: int
    is_separated: bool

    @property
    def phases(self) -> int:
        """Parts that rows are dealt out to."""
        return self.geometry.strides[0] * self.together

    @property
    def rows(self) -> int:
        """Padded input rows that are read."""
        g = self.geometry
        return (g.out_height - 1) * g.strides[0] + (g.kernel[0] - 1) * g.dilations[0] + 1

    @property
    def columns(self) -> int:
        """Padded input columns that are read."""
        g = self.geometry
        return (g.out_width - 1) * g.strides[1] + (g.kernel[1] - 1) * g.dilations[1] + 1

    @property
    def pitch(self) -> int:
        """Items from row to row: a multiple of the column stride."""
        step = self.geometry.strides[1]
        return -(-self.columns // step) * step

    @property
    def row(self) -> int:
        """Flat output pixels of a row."""
        return self.pitch // self.geometry.strides[1]

    @property
    def step(self) -> int:
        """Items from one output pixel to the next."""
        return 1 if self.is_separated else self.geometry.strides[1]

    @property
    def part_rows(self) -> int:
        """Rows of each part."""
        return -(-self.rows // self.phases)

    @property
    def items(self) -> int:
        """Of the whole plane."""
        return self.phases * self.part_rows * self.pitch

    @property
    def blocks(self) -> int:
        """Blocks of each of the output rows that are computed together."""
        flat = -(-self.geometry.out_height // self.together) * self.row
        return -(-flat // BLOCK)

    @property
    def reach(self) -> int:
        """Items beyond the plane that the last block may read."""
        return (BLOCK + 8) * self.step + self.geometry.kernel[1] * self.geometry.dilations[1] + self.pitch

    @property
    def inside(self) -> tuple[int, int, int, int]:
        """First source row and column that are read, and how many rows and columns."""
        g = self.geometry
        first_row, first_column = max(0, -g.pads[0]), max(0, -g.pads[1])
        last_row, last_column = min(g.height, self.rows - g.pads[0]), min(g.width, self.columns - g.pads[1])
        return first_row, first_column, max(0, last_row - first_row), max(0, last_column - first_column)

    def offset(self, row: int, column: int) -> int:
        """Return where output pixel 0 finds padded row and column."""
        step = self.geometry.strides[1]
        begin = (row % self.phases * self.part_rows + row // self.phases) * self.pitch
        if not self.is_separated:
            return begin + column
        return column % step * (self.items // step) + begin // step + column // step
