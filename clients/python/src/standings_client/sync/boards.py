"""The definitions of boards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import grpc

from standings.v1 import board_service_pb2 as pb
from standings.v1 import board_service_pb2_grpc as pb_grpc
from standings_client import _codec
from standings_client.sync.calls import Calls
from standings_client.types import Board, BoardPage


class Boards:
    """Makes, reads, changes and deletes boards; `client.boards`."""

    def __init__(self, channel: grpc.Channel, calls: Calls) -> None:
        self._stub = pb_grpc.BoardServiceStub(channel)
        self._calls = calls

    def create(self, board: Board, *, timeout_s: float | None = None) -> Board:
        """The new board as stored, with one open season.

        Raises BoardExists; also where an earlier attempt of the same call made it.
        """
        attempts = self._calls.begin(timeout_s)
        request = _codec.create_board_request(board)
        response = self._calls.run(self._stub.CreateBoard, request, attempts)
        return _codec.board_value(response.board)

    def get(self, board_id: str, *, timeout_s: float | None = None) -> Board:
        """The board. Raises BoardNotFound."""
        attempts = self._calls.begin(timeout_s)
        request = pb.GetBoardRequest(board_id=board_id)
        response = self._calls.run(self._stub.GetBoard, request, attempts)
        return _codec.board_value(response.board)

    def list(
        self, *, page_size: int = 0, page_token: str = "", timeout_s: float | None = None
    ) -> BoardPage:
        """A page of boards by name; `page_size` 1 to 1,000, 0 means 100."""
        attempts = self._calls.begin(timeout_s)
        request = pb.ListBoardsRequest(page_size=page_size, page_token=page_token)
        return _codec.board_page(self._calls.run(self._stub.ListBoards, request, attempts))

    def iter(self, *, page_size: int = 0, timeout_s: float | None = None) -> Iterator[Board]:
        """All boards by name, fetched page by page; `timeout_s` is for each page."""
        page = self.list(page_size=page_size, timeout_s=timeout_s)
        yield from page.boards
        while page.next_page_token:
            page = self.list(
                page_size=page_size, page_token=page.next_page_token, timeout_s=timeout_s
            )
            yield from page.boards

    def update(
        self, board: Board, *, fields: Iterable[str] = (), timeout_s: float | None = None
    ) -> Board:
        """The changed board as stored.

        `fields` of title, min_score, max_score, client_writes, metadata, index_only; empty: all
        of these.
        Raises EtagMismatch where `board.etag` is set and no longer the stored one.
        """
        attempts = self._calls.begin(timeout_s)
        request = _codec.update_board_request(board, fields)
        response = self._calls.run(self._stub.UpdateBoard, request, attempts)
        return _codec.board_value(response.board)

    def delete(self, board_id: str, *, etag: str = "", timeout_s: float | None = None) -> None:
        """Deletes a board with all its entries.

        Raises BoardNotFound, also where an earlier attempt of the same call deleted it, and
        EtagMismatch where `etag` is set and not the stored one.
        """
        attempts = self._calls.begin(timeout_s)
        request = pb.DeleteBoardRequest(board_id=board_id, etag=etag)
        self._calls.run(self._stub.DeleteBoard, request, attempts)
