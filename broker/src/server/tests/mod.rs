//! The listener from outside: over real sockets, on a node with real files.

mod cold;
mod configs;
mod connections;
mod hostile;
mod node;
mod records;
mod requests;
mod transactions;
