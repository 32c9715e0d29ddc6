"""A simulated provider as a program of its own, and inside a test: the same for all of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Generic, TypeVar

from workers.errors import UsageError
from workers.simulator import server
from workers.simulator.port import Api, Parts

Options = TypeVar("Options", bound=server.ServerOptions)


@dataclass(frozen=True)
class Program(Generic[Options]):
    """How one provider's simulator is started."""

    # Its options as they are where nothing else is said, and as flags say.
    usual: Callable[[], Options]
    read_flags: Callable[[Sequence[str]], Options]
    make_api: Callable[[Options, Parts], Api]

    def serve(self, options: Options | None = None) -> AbstractContextManager[server.Running]:
        """Run the simulator in a thread of this process for the length of a `with` block.

        Raises:
            SimulatorError: it could not be started.
        """
        chosen = options or self.usual()
        return server.serving(chosen, lambda parts: self.make_api(chosen, parts))

    def main(self, argv: Sequence[str] | None = None) -> int:
        """The simulator as this process; 0 after a clean stop, 2 for bad flags, 3 for a locked
        ledger.
        """
        try:
            options = self.read_flags(sys.argv[1:] if argv is None else argv)
        except UsageError as error:
            sys.stderr.write(f"{error}\n")
            return error.exit_code
        return server.run(options, lambda parts: self.make_api(options, parts))
