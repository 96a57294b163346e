"""Who calls, and what a caller may do: roles, the policy, namespaces, certificates and tokens."""
