//! A file system in memory that fails where it is told to, and crashes as machines do.
