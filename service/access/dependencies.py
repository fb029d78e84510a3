"""What routes say about access, and how a request's caller is found out.

A route carries one of `PUBLIC`, `READ`, `SUBMIT` and `ADMIN` among its ``dependencies``, which are resolved before all
else, so a caller who may not ask learns nothing of what was asked about; and it takes a `Caller` where it looks at
objects. A test goes through the app's routes and finds those that say nothing.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from fastapi import Depends, Request, Security
from fastapi.params import Security as SecurityParameter
from fastapi.routing import RouteContext
from fastapi.security import SecurityScopes

from service.access.principal import Principal, Scope
from service.parts import Parts
from service.problems import FORBIDDEN, ProblemError

__all__ = ["ADMIN", "PUBLIC", "READ", "SUBMIT", "Caller", "caller_of", "permit", "scope_of"]


async def caller_of(request: Request) -> Principal:
    """Who asks; found out once for each request. Raises ProblemError, see `service.access.gate.Gate.identify`."""
    known = getattr(request.state, "caller", None)
    if known is None:
        parts: Parts = request.app.state.parts
        known = request.state.caller = await parts.gate.identify(request)
    assert isinstance(known, Principal)
    return known


Caller: TypeAlias = Annotated[Principal, Depends(caller_of)]


async def _permitted(caller: Caller, needed: SecurityScopes) -> None:
    for scope in needed.scopes:
        permit(caller, Scope(scope))


def permit(caller: Principal, scope: Scope) -> None:
    """Raise ProblemError, 403, unless ``caller`` has ``scope``."""
    if not caller.scope.includes(scope):
        detail = f"this takes a key with the scope {scope}, and yours has {caller.scope}; ask for another key"
        raise ProblemError(FORBIDDEN, detail)


def scope_of(route: RouteContext) -> Scope | None:
    """The scope that a route of `fastapi.routing.iter_route_contexts` needs, None for a public one.

    Raises:
        LookupError: the route does not say.
    """
    for dependency in route.dependencies:
        if isinstance(dependency, SecurityParameter) and dependency.dependency is _permitted:
            return Scope(next(iter(dependency.scopes or ())))
        if dependency.dependency is _public:
            return None
    msg = f"{route.path} must name one of PUBLIC, READ, SUBMIT and ADMIN among its dependencies"
    raise LookupError(msg)


def _public() -> None:
    """Nobody is asked who they are."""


#: Open to everybody, with access on, too.
PUBLIC: Any = Depends(_public)
#: Looks at what the caller may see.
READ: Any = Security(_permitted, scopes=[str(Scope.READ)])
#: Makes, changes or stops something of the caller's.
SUBMIT: Any = Security(_permitted, scopes=[str(Scope.SUBMIT)])
#: Is about the service as a whole, or about everybody.
ADMIN: Any = Security(_permitted, scopes=[str(Scope.ADMIN)])
