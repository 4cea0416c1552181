"""`Budget`: the memory that a file may take, counted before it is allocated."""

from dataclasses import dataclass

from pointcmt.errors import Reason, ShapeRefused

_PER_BYTE = 32  # bytes of memory per byte of the file: indices and positions may have 8 bits
_PER_COMPRESSED = 8  # bytes that a byte of compressed geometry counts as
_ALLOWANCE = 256 << 20  # additional bytes for every file: a small one may place its mesh many times
_ITEM_BYTES = 96  # bytes per vertex, and per triangle, while reading


@dataclass
class Budget:
    """Count the memory that the geometry of a file takes, before it is allocated.

    file_size: in bytes, with those of the buffers outside the file that have been read. most_faces,
    most_vertices: of the whole scene.
    """

    file_size: int
    most_faces: int
    most_vertices: int
    spent: int = 0
    faces: int = 0
    vertices: int = 0

    def found(self, size: int) -> None:
        """Count `size` bytes of a buffer outside the file: they allow for more memory."""
        self.file_size += size

    def found_compressed(self, size: int) -> None:
        """Count `size` bytes of compressed geometry as several times as many."""
        self.file_size += (_PER_COMPRESSED - 1) * size

    def spend(self, size: int) -> None:
        """Charge `size` bytes. Raises ShapeRefused (too_large) if the file exceeds its limit."""
        self.spent += size
        limit = _ALLOWANCE + _PER_BYTE * self.file_size
        if self.spent > limit:
            raise ShapeRefused(
                Reason.TOO_LARGE,
                f"its geometry needs at least {self.spent >> 20} MiB of memory, more than the "
                f"maximum of {limit >> 20} MiB for a file of {self.file_size} bytes",
            )

    def add(self, faces: int, vertices: int) -> None:
        """Charge the faces and vertices of a primitive. Raises ShapeRefused (too_large)."""
        self.faces += faces
        self.vertices += vertices
        if self.faces > self.most_faces:
            what = f"at least {self.faces} triangles, more than the maximum of {self.most_faces}"
            raise ShapeRefused(Reason.TOO_LARGE, what)
        if self.vertices > self.most_vertices:
            what = (
                f"at least {self.vertices} vertices, more than the maximum of {self.most_vertices}"
            )
            raise ShapeRefused(Reason.TOO_LARGE, what)
        self.spend(_ITEM_BYTES * (faces + vertices))
