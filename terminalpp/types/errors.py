"""One tree of errors: a stable `code`, an HTTP status, whether trying again can help, and a hint.

Each error can be pickled (Ray carries them) because it takes positional arguments only, and can be
written as JSON and read back by looking its code up: a class path is never taken off the wire.
The gateway maps the tree to `application/problem+json` in one place; the CLI prints
`detail` and `hint` as one line and the next step. `terminal_error` has their base.
"""

from __future__ import annotations

from terminalpp.types.terminal_error import TerminalError as TerminalError
from terminalpp.types.terminal_error import all_codes as all_codes
from terminalpp.types.terminal_error import from_json as from_json

# ---- the caller's words -------------------------------------------------------------------------


class BadRequest(TerminalError):
    title = "The request could not be read"
    code, status = "bad-request", 400
    hint = "GET /openapi.json says what each path expects."


class MethodNotAllowed(TerminalError):
    title = "This path does not know that method"
    code, status = "method-not-allowed", 405
    hint = "GET /openapi.json lists every path with its methods."


class UnsupportedMediaType(TerminalError):
    title = "This path does not take a body of that type"
    code, status = "unsupported-media-type", 415
    hint = "GET /openapi.json names the type that each path takes."


class InvalidInput(TerminalError):
    title = "The request is not valid"
    code, status = "invalid-input", 422
    hint = "Correct the named field and send it again."


class Unauthorized(TerminalError):
    title = "A valid bearer token is needed"
    code, status = "unauthorized", 401
    hint = "Send `Authorization: Bearer <token>`; the owner's token is in TPP_HOME/secrets/owner.token."


class Forbidden(TerminalError):
    title = "This account may not do that"
    code, status = "forbidden", 403
    hint = "Ask the owner of the resource."


class HostNotAllowed(TerminalError):
    title = "The request names another server"
    code, status = "host-not-allowed", 403
    hint = "Call it `localhost`, or add the name to TPP_ALLOWED_HOSTS."


class OriginNotAllowed(TerminalError):
    title = "A web page of another origin may not do that"
    code, status = "origin-not-allowed", 403
    hint = "Send it from a program, or add the page's host to TPP_ALLOWED_HOSTS."


class NotFound(TerminalError):
    title = "There is no such thing"
    code, status = "not-found", 404
    hint = "Check the id; list what exists with `./tpp ps`."


class Conflict(TerminalError):
    title = "The request contradicts what is already there"
    code, status = "conflict", 409
    hint = "Read the present state, then decide again."


class IdempotencyMismatch(TerminalError):
    title = "This Idempotency-Key was used before with a different request"
    code, status = "idempotency-mismatch", 422
    hint = "Use a new key for a new request."


class IdempotencyInFlight(TerminalError):
    title = "The first request with this Idempotency-Key is still under way"
    code, status, retryable = "idempotency-in-flight", 409, True
    hint = "Wait a moment and send the same request again."


class PreconditionFailed(TerminalError):
    title = "What is there is not as If-Match or If-None-Match wants it; nothing was done"
    code, status = "precondition-failed", 412
    hint = "Read it again, and decide by its present ETag."


class RangeNotSatisfiable(TerminalError):
    title = "The range begins behind the end of the file"
    code, status = "range-not-satisfiable", 416
    hint = "Ask for bytes below `extra.size_bytes`."


class TooLarge(TerminalError):
    title = "The request is larger than the limit"
    code, status = "too-large", 413
    hint = "Send less, or raise the limit named in the detail."


class HeadersTooLarge(TerminalError):
    title = "The request's headers are larger than the limit"
    code, status = "headers-too-large", 431
    hint = "Send fewer or shorter headers."


class RequestTimeout(TerminalError):
    title = "The request did not arrive in time"
    code, status, retryable = "request-timeout", 408, True
    hint = "Send the whole request without long pauses."


class Overloaded(TerminalError):
    title = "A queue is full"
    code, status, retryable = "overloaded", 429, True
    hint = "Wait a second and send it again."


# ---- the actor system ---------------------------------------------------------------------------


class Fenced(TerminalError):
    title = "A newer owner has taken this entity over; the write was refused"
    code, status, retryable = "fenced", 409, True
    hint = "Call the entity again: the call finds its new owner."


class NotOwner(TerminalError):
    title = "This cell does not host that entity (any more)"
    code, status, retryable = "not-owner", 409, True
    hint = "Look the owner up and call again."


class Quarantined(TerminalError):
    title = "The entity failed too often and was put aside"
    code, status = "quarantined", 503
    hint = ("`./tpp quarantine ls` says why; `./tpp quarantine release` lets it go on. It can be stopped, "
            "deleted and read all the while.")


class Unavailable(TerminalError):
    title = "A part of the system does not answer"
    code, status, retryable = "unavailable", 503, True
    hint = "`./tpp status` names the part; it is restarted by itself, so try again."


class UnexpectedAnswer(TerminalError):
    title = "What answered is not a Terminal++ server, or not one of this version"
    code, status = "unexpected-answer", 502
    hint = "Check the address, and whether a proxy or a login page stands in between."


class DiskFull(TerminalError):
    title = "There is no space left"
    code, status, retryable = "disk-full", 507, True
    hint = ("Free some space under TPP_HOME (`./tpp status` shows what takes it). Nothing that was accepted "
            "is lost, and all of it goes on by itself.")


class DeadlineExceeded(TerminalError):
    title = "The call took longer than its deadline; whether it was carried out is not known"
    code, status, retryable = "deadline-exceeded", 504, True
    hint = "Ask again under the same id: repeated work is recognised."


class UnknownMethod(TerminalError):
    title = "The entity has no such method"
    code, status = "unknown-method", 400
    hint = "Client and server differ in version; restart with `./tpp down && ./tpp up`."


# ---- sandboxes ----------------------------------------------------------------------------------


class IsolationUnavailable(TerminalError):
    title = "No isolation can be had on this machine, so no sandbox is started"
    code, status = "isolation-unavailable", 503
    hint = "Run `./tpp doctor`: it names what is missing and how to install it."


class ImageUnavailable(TerminalError):
    title = "The sandbox image cannot be had"
    code, status = "image-unavailable", 409
    hint = "Check the name, or leave --image out to use the built-in one."


class SandboxNotRunning(TerminalError):
    title = "The sandbox is not running"
    code, status, retryable = "sandbox-not-running", 409, True
    hint = "Start it: POST /v1/sandboxes/{id}/start."


class SandboxPaused(Unavailable):  # weather, for whoever follows what runs in it
    title = "The sandbox is paused"
    code, status, retryable = "sandbox-paused", 409, False
    hint = "Resume it: `./tpp sandbox resume`, or POST /v1/sandboxes/{id}/resume."


class SandboxFailed(TerminalError):
    title = "The sandbox could not be started"
    code, status = "sandbox-failed", 503
    hint = "Run `./tpp doctor`; the reason is on the sandbox's record."


class CommandNotStarted(TerminalError):
    title = "The command could not be started"
    code, status = "command-not-started", 422
    hint = "Check the program's name and the working directory."


class CommandFinished(TerminalError):
    title = "The command has already ended"
    code, status = "command-finished", 409
    hint = "Read its record; start a new one to run it again."


class NotInControl(TerminalError):
    title = "Somebody else types in this terminal"
    code, status = "not-in-control", 409
    hint = "Take control of it, or ask who has it."


class CommandFailed(TerminalError):
    """Raised by the Python client alone; `extra` is what the command's result holds."""

    title = "The command did not succeed"
    code, status = "command-failed", 422
    hint = "Its exit code and what it printed are in `extra`; with `check=False` they are the result instead."

    @property
    def exit_code(self) -> int | None:
        """The command's exit code; None when it has none."""
        return self.extra.get("exit_code")

    @property
    def stdout(self) -> str:
        """What it printed, as far as its record keeps it."""
        return str(self.extra.get("stdout", ""))

    @property
    def stderr(self) -> str:
        """What it printed as errors, as far as its record keeps it."""
        return str(self.extra.get("stderr", ""))


class PortClosed(TerminalError):
    title = "Nobody listens on that port in the sandbox"
    code, status, retryable = "port-closed", 502, True
    hint = "Start the program and have it listen on 127.0.0.1, ::1 or all addresses; `./tpp ports` shows it."


class PortFailed(TerminalError):
    title = "The program in the sandbox did not answer as it should"
    code, status = "port-failed", 502
    hint = "Look at what the program prints: `./tpp sandbox logs`, or its terminal."


class LinkExpired(TerminalError):
    title = "This share link has expired"
    code, status = "link-expired", 410
    hint = "Ask its owner for another one: `./tpp ports share`."


class OffsetMismatch(TerminalError):
    title = "Standard input was written at the wrong offset"
    code, status = "offset-mismatch", 409
    hint = "Continue at the offset named in `extra.expected`."


class FileProblem(TerminalError):
    title = "The file operation was refused"
    code, status = "file-problem", 422
    hint = "Check the path and its kind."


# ---- models -------------------------------------------------------------------------------------


class ModelKeyRejected(TerminalError):
    title = "The provider did not accept the key"
    code, status = "model-key-rejected", 502
    hint = "Give the right one: `./tpp model add PROVIDER` (for example openai)."


class ModelUnknown(TerminalError):
    title = "The provider has no such model"
    code, status = "model-unknown", 422
    hint = "Check --model: it is a litellm model string such as `openai/gpt-4o`."


class ModelUnreachable(TerminalError):
    title = "The model's server could not be reached"
    code, status, retryable = "model-unreachable", 502, True
    hint = "Check the network and TPP_MODEL_BASE_URL."


class ModelOverloaded(TerminalError):
    title = "The provider kept answering with an error or a rate limit"
    code, status, retryable = "model-overloaded", 502, True
    hint = "Wait, or choose another model with --model."


class ModelReplyInvalid(TerminalError):
    title = "The model's reply was empty or malformed"
    code, status = "model-reply-invalid", 502
    hint = "Try again, or choose another model with --model."


class ModelReplyCut(TerminalError):
    title = "The model's reply was cut by its length limit"
    code, status = "model-reply-cut", 502
    hint = "Raise TPP_MODEL_MAX_TOKENS or choose a model with longer replies."


class ModelRequestTooLong(TerminalError):
    title = "The conversation no longer fits into the model's context"
    code, status = "model-request-too-long", 422
    hint = "Start a new conversation, or choose a model with a longer context."


# ---- data and boot ------------------------------------------------------------------------------


class DatabaseTooNew(TerminalError):
    title = "The database was written by a newer version"
    code, status = "database-too-new", 503
    hint = "Use the newer version of Terminal++, or another TPP_HOME."


class MigrationChanged(TerminalError):
    title = "A migration that was already applied has been edited"
    code, status = "migration-changed", 503
    hint = "Restore the file as released; write a new migration instead."


class HomeCorrupt(TerminalError):
    title = "TPP_HOME cannot be used"
    code, status = "home-corrupt", 503
    hint = "The detail names the file; move it away or choose another TPP_HOME."


class PortInUse(TerminalError):
    title = "The address is taken by another program"
    code, status = "port-in-use", 503
    hint = "Stop that program, or set TPP_PORT to another port (0 chooses a free one)."


class ServiceFailed(TerminalError):
    title = "A service did not start"
    code, status = "service-failed", 503
    hint = "The last lines of its log are in the detail; `./tpp doctor` checks the machine."
