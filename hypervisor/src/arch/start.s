// The arm64 boot header (Linux, Documentation/arch/arm64/booting) and the way from the boot loader to Rust.

    .section .text.head, "ax"
    .global _start
_start:
    b       boot                    // code0
    .long   0                       // code1
    .quad   0                       // text_offset
    .quad   __image_size            // image_size
    .quad   0xa                     // flags: little-endian, 4 KiB pages, anywhere in memory
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .long   0

// The boot processor: x0 = device tree, MMU and caches off.
boot:
    msr     daifset, #0xf
    mrs     x1, CurrentEL
    cmp     x1, #(2 << 2)
    b.ne    stuck
    mov     x19, x0
    // EL1 is AArch64, and this is not a host with VHE's register redirection (E2H = 0).
    mov     x1, #(1 << 31)
    msr     hcr_el2, x1
    isb

    // Relocate: every entry is R_AARCH64_RELATIVE (the image has no symbols to resolve).
    adrp    x20, _start
    adrp    x1, __rela_start
    add     x1, x1, :lo12:__rela_start
    adrp    x2, __rela_end
    add     x2, x2, :lo12:__rela_end
1:  cmp     x1, x2
    b.hs    2f
    ldp     x3, x4, [x1], #16
    ldr     x5, [x1], #8
    cmp     w4, #1027
    b.ne    stuck
    add     x5, x5, x20
    str     x5, [x20, x3]
    b       1b

2:  adrp    x1, __bss_start
    add     x1, x1, :lo12:__bss_start
    adrp    x2, __bss_end
    add     x2, x2, :lo12:__bss_end
3:  cmp     x1, x2
    b.hs    4f
    stp     xzr, xzr, [x1], #16
    b       3b

    // What was written with the caches off, relocated constants too, must not be hidden by stale lines once they are on.
4:  adrp    x1, __rodata_start
    adrp    x2, __image_end
    mrs     x3, ctr_el0
    ubfx    x3, x3, #16, #4
    mov     x4, #4
    lsl     x4, x4, x3
5:  cmp     x1, x2
    b.hs    6f
    dc      ivac, x1
    add     x1, x1, x4
    b       5b
6:  dsb     sy
    ic      iallu
    dsb     sy
    isb

    adrp    x1, {stacks}
    add     x1, x1, :lo12:{stacks}
    mov     x2, #{stack_top}
    add     sp, x1, x2
    mov     x29, xzr
    mov     x30, xzr
    mov     x0, x19
    mov     x1, x20
    b       {boot_main}

// Another processor, by PSCI CPU_ON: x0 = its index. The boot processor has filled in {translation}.
    .global secondary_start
secondary_start:
    msr     daifset, #0xf
    mov     x19, x0
    mov     x1, #(1 << 31)
    msr     hcr_el2, x1
    adrp    x1, {translation}
    add     x1, x1, :lo12:{translation}
    ldp     x2, x3, [x1]
    ldp     x4, x5, [x1, #16]
    msr     mair_el2, x2
    msr     tcr_el2, x3
    msr     ttbr0_el2, x4
    dsb     ish
    tlbi    alle2
    dsb     ish
    isb
    msr     sctlr_el2, x5
    isb
    adrp    x1, {stacks}
    add     x1, x1, :lo12:{stacks}
    mov     x2, #{stack_size}
    madd    x1, x2, x19, x1
    mov     x2, #{stack_top}
    add     sp, x1, x2
    mov     x29, xzr
    mov     x30, xzr
    mov     x0, x19
    b       {secondary_main}

stuck:
    wfe
    b       stuck
