"""What operators can do to the machinery itself: breakers and faults, by the file of the machine.

Asks neither store. Knows the contract no more than the core does.
"""
