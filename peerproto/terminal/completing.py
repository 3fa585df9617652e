"""What bash is told of a word that is to be completed.

click's own script takes the words as bash splits them, which is at a colon, a ``=`` and an ``@``,
too: it completes neither the key ``2001:db8::1`` nor anything behind ``--node http://…``.
"""

from __future__ import annotations

import os
from typing import Final

from click.shell_completion import BashComplete, split_arg_string

_SCRIPT: Final = """\
%(complete_func)s() {
    local kind value said
    # Lines of a kind, a comma, and what bash is to put in place of its word.
    said=$(env COMP_LINE="${COMP_LINE:0:COMP_POINT}" COMP_WORD="$2" \\
        %(complete_var)s=bash_complete "$1" 2>/dev/null)
    COMPREPLY=()
    while IFS=, read -r kind value; do
        case $kind in
            plain) COMPREPLY+=("$value") ;;
            file) compopt -o default ;;
            dir) compopt -o dirnames ;;
        esac
    done <<< "$said"
    # Something is yet to follow it.
    [[ ${#COMPREPLY[@]} == 1 && $COMPREPLY == *= ]] && compopt -o nospace
    return 0
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

_CURSOR: Final = "\0"


def _words(line: str) -> list[str]:
    """The words of a line up to the cursor, the last of them being the one that is typed."""
    *words, last = split_arg_string(line + _CURSOR)
    return [*words, last.removesuffix(_CURSOR)]


class Bash(BashComplete):
    """Completes the words that a command would get, whatever ``COMP_WORDBREAKS`` is."""

    source_template = _SCRIPT

    def get_completion_args(self) -> tuple[list[str], str]:
        """See click."""
        _program, *before, incomplete = _words(os.environ["COMP_LINE"])
        return before, incomplete

    def complete(self) -> str:
        """See click."""
        before, incomplete = self.get_completion_args()
        there = _before(incomplete, os.environ["COMP_WORD"])
        option, equals, _ = incomplete.partition("=")
        # Of --by=gpc0, click offers what follows the sign.
        option = option + equals if equals and incomplete.startswith("-") else ""
        lines = []
        for item in self.get_completions(before, incomplete):
            whole = f"{option}{item.value}"
            if item.type != "plain" or not whole.startswith(there):
                lines.append(self.format_completion(item))
            elif whole != incomplete or not whole.endswith("="):
                lines.append(f"plain,{whole[len(there) :]}")
        return "\n".join(lines)


def _before(incomplete: str, word: str) -> str:
    """What of a word stands before that which bash takes for the word, and will not be replaced."""
    typed = _words(word)[-1] if word else ""
    return incomplete.removesuffix(typed) if incomplete.endswith(typed) else ""
