//! What crosses between zsock's kernel and user space, defined once.
#![no_std]
