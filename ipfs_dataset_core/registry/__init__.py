"""Plugins: how they are found, looked up, created, and isolated from the rest of the program.

- `discovery` finds the installed plugins, imports each when it is needed, and collects its declarations.
- `declarations` validates declarations; the class of a reader is a declaration, too.
- `lookup` finds the declaration for a name, an address scheme, a suffix or the content of a file.
- `guarded_readers`, `guarded_transports` and `guarded_exporters` create the declared objects and wrap them
  behind the same interface, so that each failure names the plugin; see `guard`.
- `provenance` describes where a plugin comes from, and warns about it.

The built-in plugins are entry points like all others, and use only public names. They are privileged in four
places, each of which tests `Origin.built_in`:

1. They are looked up first, in the metadata of this distribution alone, so that no other plugin is examined
   or imported for anything that every installation has (`Plugins.built_in`).
2. A name, an address scheme, a suffix or first bytes that they claim belong to them, even if others
   claim them (`precedence`).
3. Their transports and indexes are not wrapped: they raise typed errors, and the transports enforce deadlines
   themselves (`connect` of `ipfs_dataset_core.reading.connections`, `GuardedReader.index`).
4. The version for which they were built is not checked, because they are part of this distribution.
"""
