"""The fence: revisions, leases, and when a mutation is in effect at every holder.

It knows the ports and the domain. It must not know SQL, gRPC or the settings.
"""
