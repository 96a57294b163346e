"""The client for threads. The rules live one level up; here is only waiting."""
