"""What only a client can raise."""

from schemas.errors import HeadraceError


class ClientClosed(HeadraceError):
    """The client was closed before, or while it was asked."""

    code = "client_closed"

    def __init__(self) -> None:
        super().__init__("The client is closed. Jobs go on; connect again to ask for their results.")
