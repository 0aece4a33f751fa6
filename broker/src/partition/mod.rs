//! One partition: a single writer, handles and readers.
