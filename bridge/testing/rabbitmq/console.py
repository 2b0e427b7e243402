"""Erlang expressions, evaluated on a node within a millisecond.

`rabbitmqctl eval` starts an Erlang runtime for each expression, which takes 0.4 to 2 s. The console
is one hidden Erlang node that stays: it reads expressions from its standard input, has the broker's
node evaluate them, and prints the values. It ends when its pipe closes.
"""

import base64
import secrets
import subprocess
from typing import IO, cast

from bridge.testing.rabbitmq.errors import BrokerUnavailable
from bridge.testing.rabbitmq.home import LOOPBACK_DISTRIBUTION, Home
from bridge.testing.rabbitmq.process import start

# NODE is the broker's node. A line in is an expression in base64; a line out is "ok" or "error",
# and the value in base64.
_PROGRAM = r"""
Loop = fun Loop() ->
    case io:get_line("") of
        Line when is_list(Line) ->
            {Verdict, Term} = try
                Source = unicode:characters_to_list(base64:decode(string:trim(Line))),
                {ok, Tokens, _} = erl_scan:string(Source),
                {ok, Expressions} = erl_parse:parse_exprs(Tokens),
                case rpc:call('NODE', erl_eval, exprs, [Expressions, []], 60000) of
                    {value, Value, _} -> {"ok", Value};
                    Failure -> {"error", Failure}
                end
            catch _:Reason -> {"error", Reason}
            end,
            Text = unicode:characters_to_binary(io_lib:format("~tp", [Term])),
            io:format("~s ~s~n", [Verdict, base64:encode(Text)]),
            Loop();
        _ -> halt(0)
    end
end, Loop().
"""


class Console:
    """Evaluates expressions on one node. It starts at the first one, and again if it has ended."""

    def __init__(self, home: Home, node: str) -> None:
        """`node`: Erlang's name of the broker's node."""
        self._home = home
        self._node = node
        self._process: subprocess.Popen[bytes] | None = None

    def eval(self, expression: str) -> str:
        """The value of an expression, as Erlang prints it.

        Raises:
            BrokerUnavailable: the expression failed, or the node cannot be reached.

        """
        if self._process is None or self._process.poll() is not None:
            self._process = self._start()
        questions, answers = (
            cast(IO[bytes], pipe) for pipe in (self._process.stdin, self._process.stdout)
        )
        source = expression.strip().removesuffix(".") + "."
        questions.write(base64.b64encode(source.encode()) + b"\n")
        questions.flush()
        verdict, _, encoded = answers.readline().strip().partition(b" ")
        text = base64.b64decode(encoded).decode()
        if verdict != b"ok":
            raise BrokerUnavailable(
                f"Erlang could not evaluate {expression!r}: {text or 'its console has ended'}"
            )
        return text

    def close(self) -> None:
        """End it, if it runs."""
        if self._process is not None:
            self._process.communicate()
            self._process = None

    def _start(self) -> subprocess.Popen[bytes]:
        name = f"console-{secrets.token_hex(4)}@localhost"
        options = ["-noshell", "-hidden", "-sname", name, "-kernel", "logger_level", "none"]
        program = _PROGRAM.replace("NODE", self._node)
        return start(
            self._home.command("erl", *options, *LOOPBACK_DISTRIBUTION.split(), "-eval", program),
            environment=self._home.environment,
            folder=self._home.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
