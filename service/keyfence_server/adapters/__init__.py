"""The application's ports, answered by the world: a store on SQL, files on a disk."""
