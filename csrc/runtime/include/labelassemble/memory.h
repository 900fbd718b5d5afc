// What a program that predicts again and again may ask of libtorch's memory.
#pragma once

namespace labelassemble {

// Keeps the memory of CPU tensors of 64 KiB and more that predictions have freed, for the next
// ones. libtorch returns tens of megabytes to the system after each layer otherwise, and pays for
// the page faults of getting them back. The process then stays as large as its largest batch made
// it. For a program's main, before its first prediction: it replaces libtorch's CPU allocator, for
// all of the process. Calling it again does nothing, nor does it where the system refuses to
// reserve the addresses.
void keep_freed_memory();

}  // namespace labelassemble

// The same, for callers that know C alone.
extern "C" void labelassemble_keep_freed_memory();
