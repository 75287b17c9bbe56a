// EL2's exception vectors (Arm ARM D1.3.1). EL2 runs with interrupts masked: an interrupt is taken only while a guest runs.
// Everything else that arrives from EL2 itself is a bug of ours.

    // x0 = the current vCPU's context, x0 to x19 in it: what a procedure call may change, but for x30 (AAPCS64 6.1.1), and x19, which makes a pair.
    .macro  save_changing
    sub     sp, sp, #16
    stp     x0, x1, [sp]
    mrs     x0, tpidr_el2
    ldr     x0, [x0]                // the current vCPU's context
    stp     x2, x3, [x0, #16]
    stp     x4, x5, [x0, #32]
    stp     x6, x7, [x0, #48]
    stp     x8, x9, [x0, #64]
    ldp     x2, x3, [sp], #16
    stp     x2, x3, [x0]
    stp     x10, x11, [x0, #80]
    stp     x12, x13, [x0, #96]
    stp     x14, x15, [x0, #112]
    stp     x16, x17, [x0, #128]
    stp     x18, x19, [x0, #144]
    .endm

    // x0 = the context: what a procedure call keeps, but for x19, which is there already, and x28 and x29, which each way pairs as it can.
    .macro  save_kept
    stp     x20, x21, [x0, #160]
    stp     x22, x23, [x0, #176]
    stp     x24, x25, [x0, #192]
    stp     x26, x27, [x0, #208]
    .endm

    // All of those that a procedure call may change but x0, x1 and x18.
    .macro  restore_changing
    ldp     x2, x3, [x0, #16]
    ldp     x4, x5, [x0, #32]
    ldp     x6, x7, [x0, #48]
    ldp     x8, x9, [x0, #64]
    ldp     x10, x11, [x0, #80]
    ldp     x12, x13, [x0, #96]
    ldp     x14, x15, [x0, #112]
    ldp     x16, x17, [x0, #128]
    .endm

    .macro  entry handler
    .balign 0x80
    save_changing
    mrs     x1, elr_el2
    mrs     x2, spsr_el2
    adr     x18, \handler
    b       save_rest
    .endm

    // A call, as most exceptions are. What a handler in Rust leaves alone anyway (AAPCS64 6.1.1) stays where it is, and so do ELR_EL2 and
    // SPSR_EL2: the guest that called goes on, unless the handler says otherwise.
    .macro  entry_synchronous
    .balign 0x80
    save_changing
    stp     x29, x30, [x0, #232]
    mrs     x2, esr_el2
    mov     x3, #{hvc}
    cmp     x2, x3
    b.ne    no_call
    ldr     w2, [x0]
    mov     w3, #{call_base}
    sub     w2, w2, w3
    cmp     w2, #{call_count}
    b.hs    no_call
    adr     x3, calls
    ldrsw   x2, [x3, x2, lsl #2]
    add     x3, x3, x2
    mov     x29, xzr
    blr     x3
    b       called
    .endm

    // Fills the table of calls up to the one with this number, which has a way of its own.
    .macro  call number handler
    .rept   (\number - {call_base}) - (. - calls) / 4
    .word   undecided - calls
    .endr
    .word   \handler - calls
    .endm

    .macro  bug number
    .balign 0x80
    msr     tpidr_el0, x0
    mov     x0, #\number
    b       bug
    .endm

    .section .text.vectors, "ax"
    .balign 0x800
    .global vectors
vectors:
    bug     0
    bug     1
    bug     2
    bug     3
    bug     4
    bug     5
    bug     6
    bug     7
    entry_synchronous
    entry   {interrupt}
    entry   {interrupt}
    entry   {serror}
    // AArch32 programs: hidden, but a guest can start one where the processor has it.
    entry_synchronous
    entry   {interrupt}
    entry   {interrupt}
    entry   {serror}

    .balign 64
// x0 = the context, x1 = what the handler of calls says.
called:
    cbnz    x1, restore_kept
    ldp     x29, x30, [x0, #232]
    ldr     x18, [x0, #144]
    restore_changing
    ldp     x0, x1, [x0]
    eret

// The calls that messages are made of, by the low byte of their numbers.
calls:
    call    {version_call} {version}
    call    {send_call} {send}
    call    {receive_call} {receive}
    call    {event_next_call} {event_next}
    call    {event_send_call} {event_send}
    call    {call_call} direct_call
    call    {reply_and_wait_call} reply_and_wait
undecided:
    mov     x1, #{how_undecided}
    ret
// Those that end with another guest need all registers saved.
direct_call:
    adr     x18, {direct_call}
    b       save_called
reply_and_wait:
    adr     x18, {reply_and_wait}
save_called:
    mrs     x3, elr_el2
    mrs     x2, spsr_el2
    save_kept
    str     x28, [x0, #224]
    stp     x3, x2, [x0, #248]
    blr     x18
    b       enter_guest

// x2 = ESR_EL2. WFI has a way of its own: class 1, TI 0 (Arm ARM D24.2.40).
no_call:
    and     w3, w2, #0xfc000003
    mov     w4, #{wfi}
    mov     x1, #{how_undecided}
    cmp     w3, w4
    b.ne    save_synchronous
    mrs     x1, elr_el2
    mrs     x2, spsr_el2
    adr     x18, {wait}
    b       save_rest
restore_kept:
    ldp     x29, x30, [x0, #232]
save_synchronous:
    mrs     x3, elr_el2
    mrs     x2, spsr_el2
    save_kept
    str     x28, [x0, #224]
    stp     x30, x3, [x0, #240]
    str     x2, [x0, #256]
    mov     x29, xzr
    bl      {synchronous}
    b       enter_guest

    .balign 64
save_rest:
    save_kept
    stp     x28, x29, [x0, #224]
    stp     x30, x1, [x0, #240]
    str     x2, [x0, #256]
    mov     x29, xzr
    blr     x18

// x0 = the context to enter. Also where a processor goes first. Clobbers everything.
    .global enter_guest
enter_guest:
    ldp     x30, x1, [x0, #240]
    ldr     x2, [x0, #256]
    msr     elr_el2, x1
    msr     spsr_el2, x2
    restore_changing
    ldp     x18, x19, [x0, #144]
    ldp     x20, x21, [x0, #160]
    ldp     x22, x23, [x0, #176]
    ldp     x24, x25, [x0, #192]
    ldp     x26, x27, [x0, #208]
    ldp     x28, x29, [x0, #224]
    ldp     x0, x1, [x0]
    eret
