"""`python -m cvcore …`: everything the dashboard does, without a browser."""

from cvcore.cli import data_commands, queue_commands, run_commands, storage_commands, train_commands
from cvcore.cli.command_line import main

__all__ = ["data_commands", "main", "queue_commands", "run_commands", "storage_commands", "train_commands"]
