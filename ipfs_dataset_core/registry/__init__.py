"""Plugins: how they are found, looked up, made, and kept from harming anything but themselves.

- `discovery` finds the installed plugins, imports one when it is needed, and collects its declarations.
- `declarations` checks what plugins declare; the class of a reader is a declaration, too.
- `lookup` finds the declaration for a name, an address scheme, a suffix or the content of a file.
- `guarded_readers`, `guarded_transports` and `guarded_exporters` make what is declared and wrap it behind the
  same interface, so that each of its failures names the plugin; see `guard`.
- `provenance` describes where a plugin comes from, and warns about it.

The built-in plugins are entry points like all others, and use public names only. They are privileged in these
four places, each of which tests `Origin.built_in`:

1. They are looked for first, in the metadata of this distribution alone, so that for what every installation
   has no other plugin is looked at or imported (`Plugins.built_in`).
2. A name, an address scheme, a suffix or first bytes that they claim are theirs, also where others claim them
   (`precedence`).
3. Their transports and indexes are not wrapped: they raise typed errors, and the transports keep time
   themselves (`connect` of `ipfs_dataset_core.reading.connections`, `GuardedReader.index`).
4. The version for which they were built is not checked: they come with the core.
"""
