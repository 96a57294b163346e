"""Messages of the contract to words of the core, with every check of a field, and back.

Decoders raise core.errors.InvalidInput with the field's path as in the proto.
"""
