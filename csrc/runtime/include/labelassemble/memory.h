// What a program that predicts again and again may ask of its allocator.
#pragma once

namespace labelassemble {

// Lets glibc keep memory that predictions have freed, for the next ones: it returns tens of
// megabytes to the system after each layer otherwise, and pays for the page faults of getting them
// back. For a program's main, before its first prediction; the process then stays as large as its
// largest batch made it. Does nothing where the allocator is not glibc's.
void keep_freed_memory();

}  // namespace labelassemble
