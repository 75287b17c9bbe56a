// EL2's exception vectors (Arm ARM D1.3.1). EL2 runs with interrupts masked: an interrupt is taken only while a guest runs.
// Everything else that arrives from EL2 itself is a bug of ours.
//
// While a guest runs, the stack is empty and the processor's own structure lies right above it (`processor.rs`). x29 stays the guest's until somebody
// needs a register: nothing at EL2 follows it.

    // x0 = the current vCPU's context, with what a procedure call may change in it (AAPCS64 6.1.1): x0 to x18, and x30. x2 = the guest's x0.
    .macro  save_changing
    stp     x0, x1, [sp, #-16]!
    ldr     x0, [sp, #16]           // the current vCPU's context
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
    stp     x18, x30, [x0, #144]
    .endm

    // x0 = the context: the others, x2 = ELR_EL2 and x3 = SPSR_EL2.
    .macro  save_rest
    stp     x20, x21, [x0, #160]
    stp     x22, x23, [x0, #176]
    stp     x24, x25, [x0, #192]
    stp     x26, x27, [x0, #208]
    stp     x28, x29, [x0, #224]
    stp     x19, x2, [x0, #240]
    str     x3, [x0, #256]
    .endm

    .macro  save_all
    mrs     x2, elr_el2
    mrs     x3, spsr_el2
    save_rest
    .endm

    // All of those that a procedure call may change but x0, x1, x18 and x30.
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

    // Handlers that get all of a guest's registers do not come back: they end with `enter_guest` (`Processor::enter`).
    .macro  entry handler
    .balign 0x80
    save_changing
    save_all
    b       \handler
    .endm

    // A call, as most exceptions are. What a handler in Rust leaves alone anyway (AAPCS64 6.1.1) stays where it is, and so do ELR_EL2 and
    // SPSR_EL2: the guest that called goes on, unless the handler says otherwise. What is compared is ESR_EL2 above w0: the one `hvc` that calls
    // have, and a number that is in the table.
    .macro  entry_synchronous
    .balign 0x80
    save_changing
    mrs     x3, esr_el2
    bfi     x2, x3, #32, #32
    ldr     x4, first_call
    sub     x2, x2, x4
    cmp     x2, #{call_count}
    b.lo    hot_call
    eor     w4, w3, #{wfi}
    tst     w4, #0xfc000003
    b.eq    wait
    b       other
    .endm

    // Fills the table of calls up to the one with this number, which has a way of its own.
    .macro  call number handler
    .rept   (\number - {call_base}) - (. - calls) / 8
    .xword  undecided
    .endr
    .xword  \handler
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
    // For an EL1 in AArch32 state, of which there is none (HCR_EL2.RW): its programs in that state come above.
    .balign 0x80
    save_changing
    b       other
    entry   {interrupt}
    entry   {interrupt}
    entry   {serror}

    .balign 64
// x0 = the context, x2 = the call's place in the table.
hot_call:
    adr     x3, calls
    ldr     x3, [x3, x2, lsl #3]
    blr     x3
    // x0 = the context, x1 = what the handler of calls says.
    cbnz    x1, synchronous
    ldp     x18, x30, [x0, #144]
    restore_changing
    ldp     x0, x1, [x0]
    eret

// Those that end with another guest need all registers saved.
direct_call:
    save_all
    b       {direct_call}
reply_and_wait:
    save_all
    b       {reply_and_wait}

// WFI: class 1, TI 0 (Arm ARM D24.2.40). It is left behind, as executing it would: PSTATE.SS and BTYPE are used up. AArch32 is hidden, but a guest can
// start a program in that state (PSTATE.M[4]) where the processor has it.
wait:
    mrs     x3, spsr_el2
    tbnz    w3, #4, other
    mrs     x2, elr_el2
    add     x2, x2, #4
    and     x3, x3, #~(1 << 21)
    and     x3, x3, #~(3 << 10)
    save_rest
    b       {wait}

other:
    mov     x1, #{how_undecided}
// x1 = what is known of it.
synchronous:
    save_all
    b       {synchronous}

undecided:
    mov     x1, #{how_undecided}
    ret

// x0 = the context to enter. Also where a processor goes first. Clobbers everything.
    .balign 64
    .global enter_guest
enter_guest:
    ldp     x19, x1, [x0, #240]
    ldr     x2, [x0, #256]
    msr     elr_el2, x1
    msr     spsr_el2, x2
    restore_changing
    ldp     x18, x30, [x0, #144]
    ldp     x20, x21, [x0, #160]
    ldp     x22, x23, [x0, #176]
    ldp     x24, x25, [x0, #192]
    ldp     x26, x27, [x0, #208]
    ldp     x28, x29, [x0, #224]
    ldp     x0, x1, [x0]
    eret

// ESR_EL2 of `hvc #0` above the number of the first call in the table.
    .balign 8
first_call:
    .xword  {hvc} << 32 | {call_base}

// The calls that messages are made of, by the low byte of their numbers.
    .section .rodata.calls, "a"
    .balign 8
calls:
    call    {version_call} {version}
    call    {send_call} {send}
    call    {receive_call} {receive}
    call    {event_next_call} {event_next}
    call    {event_send_call} {event_send}
    call    {call_call} direct_call
    call    {reply_and_wait_call} reply_and_wait
    .text
