// An exception from EL2 itself. Its stack may be what is wrong, so the first processor that comes here takes the one stack that is kept for
// it, with all its registers. The guest that ran here does not run again: its registers hold what there is no other room for.

// x0 = the vector's number, and what was in x0 is in TPIDR_EL0.
bug:
    msr     tpidr_el1, x1
    msr     tpidrro_el0, x2
    msr     far_el1, x3
    adrp    x1, {last_stack}
    add     x1, x1, :lo12:{last_stack}
    mrs     x2, mpidr_el1           // bit 31 is one: never 0
1:  ldaxr   x3, [x1]
    cbnz    x3, 2f
    stlxr   w3, x2, [x1]
    cbnz    w3, 1b

    stp     x4, x5, [x1, #{registers} + 32]
    stp     x6, x7, [x1, #{registers} + 48]
    stp     x8, x9, [x1, #{registers} + 64]
    stp     x10, x11, [x1, #{registers} + 80]
    stp     x12, x13, [x1, #{registers} + 96]
    stp     x14, x15, [x1, #{registers} + 112]
    stp     x16, x17, [x1, #{registers} + 128]
    stp     x18, x19, [x1, #{registers} + 144]
    stp     x20, x21, [x1, #{registers} + 160]
    stp     x22, x23, [x1, #{registers} + 176]
    stp     x24, x25, [x1, #{registers} + 192]
    stp     x26, x27, [x1, #{registers} + 208]
    stp     x28, x29, [x1, #{registers} + 224]
    mov     x2, sp
    stp     x30, x2, [x1, #{registers} + 240]
    mrs     x2, tpidr_el0
    mrs     x3, tpidr_el1
    stp     x2, x3, [x1, #{registers}]
    mrs     x2, tpidrro_el0
    mrs     x3, far_el1
    stp     x2, x3, [x1, #{registers} + 16]
    mov     x2, #{last_stack_size}
    add     x2, x1, x2
    mov     sp, x2
    add     x1, x1, #{registers}
    mov     x29, xzr
    mov     x30, xzr
    b       {unexpected}

    // Another processor has it: this one has no more to say. The same: not even the report of a bug works.
2:  cmp     x3, x2
    b.ne    3f
    mov     x2, #{last_stack_size}
    add     x2, x1, x2
    mov     sp, x2
    b       {hopeless}
3:  wfi
    b       3b
