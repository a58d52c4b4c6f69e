"""The host of segments that run inside onnxruntime: this process."""

from sparse_rt.library import callbacks, path, segments
from sparse_rt.plan.bind.segment import Segment
from sparse_rt.plan.hosted.host import Host

__all__ = ["HOST"]


class _Process:
    """What :class:`sparse_rt.plan.hosted.host.Host` asks for."""

    def get_library_path(self) -> str:
        return path.get_segment_library_path()

    def register(self, segment: Segment, threads: int) -> int:
        return segments.register(segment, threads)

    def unregister(self, number: int) -> None:
        segments.unregister(number)

    def error_of(self, text: str) -> BaseException | None:
        return callbacks.error_of(text)


HOST: Host = _Process()
