"""What is recorded of a call before it is done: which methods, what of them, and where it is put
into the chain. It knows no file and no table.
"""
