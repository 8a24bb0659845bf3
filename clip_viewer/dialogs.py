"""Dialogs of the window."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QMessageBox, QWidget

from clip_viewer.keys import Keys
from clip_viewer.situation import resume
from clip_viewer.texts import breakable

YES, NO = "Finish for everyone", "Continue labelling"


def confirm_finish(parent: QWidget, root: Path, answered: int, budget: int) -> bool:
    """Ask for confirmation before ending labelling for everyone; explain the consequences."""
    text = (
        "End labelling for everyone who labels this run, not only for you?\n\n"
        f"The agent then finishes training with the labels so far ({answered:,} of {budget:,}). "
        "No answer can be undone afterwards.\n\n"
        f"To ask for labels again later, stop the run if it is running, then:\n{breakable(resume(str(root), budget))}"
    )
    box = QMessageBox(QMessageBox.Icon.Question, "Finish labelling", text, parent=parent)
    box.setTextFormat(Qt.TextFormat.PlainText)
    yes = box.addButton(YES, QMessageBox.ButtonRole.AcceptRole)
    box.setDefaultButton(box.addButton(NO, QMessageBox.ButtonRole.RejectRole))
    box.exec()
    return box.clickedButton() is yes


def show_help(parent: QWidget, keys: Keys) -> None:
    """Show the list of keys."""
    table, button = f"<table>{keys.help}</table>", QMessageBox.StandardButton.Ok
    box = QMessageBox(QMessageBox.Icon.NoIcon, "Keys", table, button, parent)
    box.setModal(False)
    box.show()
