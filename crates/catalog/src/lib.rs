//! The catalog: everything small and transactional.
