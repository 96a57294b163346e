"""The client for asyncio. The rules live one level up; here is only waiting."""
