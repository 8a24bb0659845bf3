"""A small state that a teacher keeps in a run's label store, so that a resumed run continues with it."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

from prefrl.errors import DamagedFileError
from prefrl.feedback.database import META
from prefrl.feedback.store import LabelStore


class Notes:
    """A JSON value in a label store."""

    def __init__(self, store: LabelStore, name: str) -> None:
        """Initialise the notes; `name` is unique in the store."""
        self._read, self._write, self._key = store.database.read, store.database.write, f"notes of {name}"

    def read(self) -> Any:
        """Return the value; None if there is none yet.

        Raises:
            DamagedFileError: if it is not JSON.
        """
        with self._read() as connection:
            text = connection.scalar(sa.select(META.c.value).where(META.c.key == self._key))
        try:
            return None if text is None else json.loads(text)
        except (ValueError, RecursionError):
            raise DamagedFileError(f"the {self._key} in labels.sqlite are damaged") from None

    def write(self, value: Any) -> None:
        """Replace the value."""
        with self._write() as connection:
            connection.execute(META.delete().where(META.c.key == self._key))
            connection.execute(META.insert().values(key=self._key, value=json.dumps(value)))
