"""Parquet and Arrow files as JSON lines."""
import json

from hub_settings import one_line

class Table:
    """The rows of a Parquet file, or of an Arrow file or stream, as JSON lines, some at a time."""

    def __init__(self, path):
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
        self.path, self.error = path, pyarrow.ArrowException
        try:
            with open(path, "rb") as file:
                magic = file.read(6)
            if magic[:4] == b"PAR1":
                self.batches = pyarrow.parquet.ParquetFile(path).iter_batches(1024)
            elif magic == b"ARROW1":
                reader = pyarrow.ipc.open_file(path)
                self.batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
            else:
                self.batches = iter(pyarrow.ipc.open_stream(path))
        except (self.error, OSError) as error:
            self._refuse(error)

    def _refuse(self, error):
        raise ValueError(f"{self.path}: found no Parquet or Arrow data that can be read ({one_line(error)}), "
                         "expected some") from None

    def read(self):
        """Lines, or nothing at the end."""
        try:
            for batch in self.batches:
                if batch.num_rows:
                    rows = batch.to_pylist()
                    return "".join(json.dumps(_plain(row), ensure_ascii=False) + "\n" for row in rows)
        except (self.error, OSError) as error:
            self._refuse(error)
        return ""


def _plain(value):
    """What JSON can say. A table has all fields in all rows: those that are null are left out."""
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items() if v is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and value - value != 0:  # NaN, infinity
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return f"<{len(value)} bytes>"
    return str(value)
