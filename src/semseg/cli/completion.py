"""The command `completion`: a script for the shell that completes commands, options and their values."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from semseg.cli.options import Commands
from semseg.cli.parser import Parser, one_of

_SHELLS = ("bash", "zsh")
_ZSH = "autoload -U +X bashcompinit && bashcompinit\n"
_SCRIPT = """_semseg() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}} command=${{COMP_WORDS[1]}} words=
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="{commands}"
    else
        case "$command $before" in
{values}
            *)
                case "$command $word" in
{options}
                esac
                ;;
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _semseg semseg
"""


def add_completion(commands: Commands) -> None:
    """Adds `semseg completion`, which prints the script."""
    parser = commands.add_parser(
        "completion",
        help="print a script that completes commands and options in a shell",
        description='Prints a script for the shell: in bash or zsh, `eval "$(semseg completion bash)"`, for good in '
        "~/.bashrc or ~/.zshrc.",
    )
    parser.set_defaults(run=lambda arguments: _print(arguments, commands.choices))
    parser.add_argument("shell", type=one_of(*_SHELLS), metavar="|".join(_SHELLS), help="the shell")


def _print(arguments: argparse.Namespace, parsers: Mapping[str, Parser]) -> int:
    values, options = [], []
    for command, parser in parsers.items():
        names = parser.options()
        options.append(f'                    "{command} -"*) words="{" ".join(names)}" ;;')
        values += [
            f'            "{command} {option}") words="{" ".join(words)}" ;;'
            for option, words in names.items()
            if words
        ]
    script = _SCRIPT.format(commands=" ".join(parsers), values="\n".join(values), options="\n".join(options))
    print(f"{_ZSH if arguments.shell == 'zsh' else ''}{script}", end="")
    return 0
