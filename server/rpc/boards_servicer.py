"""Definitions of boards: decode, call the use case, encode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from google.protobuf.descriptor import ServiceDescriptor

from core.manage_boards import ManageBoards
from server.rpc.call import CallContext
from server.rpc.codec import boards, fields
from standings.v1 import board_service_pb2 as pb


@dataclass(frozen=True, slots=True)
class BoardsServicer:
    """Answers standings.v1.BoardService."""

    service: ClassVar[ServiceDescriptor] = pb.DESCRIPTOR.services_by_name["BoardService"]

    manage_boards: ManageBoards

    async def create_board(
        self, request: pb.CreateBoardRequest, _call: CallContext
    ) -> pb.CreateBoardResponse:
        """Makes a board."""
        board = await self.manage_boards.create(boards.decode_new_board(request))
        return pb.CreateBoardResponse(board=boards.encode_board(board))

    async def get_board(
        self, request: pb.GetBoardRequest, _call: CallContext
    ) -> pb.GetBoardResponse:
        """One board."""
        board = await self.manage_boards.get(fields.board_id(request.board_id))
        return pb.GetBoardResponse(board=boards.encode_board(board))

    async def list_boards(
        self, request: pb.ListBoardsRequest, call: CallContext
    ) -> pb.ListBoardsResponse:
        """A page of the caller's boards."""
        page, next_page_token = await self.manage_boards.list(
            page_size=fields.page_size(request.page_size, default=boards.PAGE_SIZE_DEFAULT),
            page_token=fields.token(request.page_token, "page_token"),
            prefix=call.identity.board_prefix,
        )
        return pb.ListBoardsResponse(
            boards=map(boards.encode_board, page), next_page_token=next_page_token
        )

    async def update_board(
        self, request: pb.UpdateBoardRequest, _call: CallContext
    ) -> pb.UpdateBoardResponse:
        """Changes a board."""
        board_id = boards.decode_board_id(request)
        etag = boards.decode_etag(request.board.etag, "board.etag")
        changes = boards.decode_changes(request)
        board = await self.manage_boards.update(board_id, changes, etag=etag)
        return pb.UpdateBoardResponse(board=boards.encode_board(board))

    async def delete_board(
        self, request: pb.DeleteBoardRequest, _call: CallContext
    ) -> pb.DeleteBoardResponse:
        """Ends a board."""
        board_id = fields.board_id(request.board_id)
        await self.manage_boards.delete(board_id, etag=boards.decode_etag(request.etag, "etag"))
        return pb.DeleteBoardResponse()
