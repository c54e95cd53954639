/* _dl_find_object for musl, by dl_iterate_phdr. gcc's unwinder, made for glibc, asks it where the unwind table of a
   program counter is (<dlfcn.h> of glibc 2.35 has the declaration; only the table and the mapping are read). */
#define _GNU_SOURCE
#include <link.h>
#include <stddef.h>
#include <string.h>

struct dl_find_object {
    unsigned long long flags;
    void *map_start, *map_end;
    struct link_map *link_map;
    void *eh_frame;
    unsigned long long reserved[7];
};

struct search {
    ElfW(Addr) address;
    struct dl_find_object *result;
};

static int visit(struct dl_phdr_info *info, size_t size, void *data)
{
    struct search *search = data;
    ElfW(Addr) start = 0, end = 0, table = 0;

    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        ElfW(Addr) address = info->dlpi_addr + header->p_vaddr;

        if (header->p_type == PT_GNU_EH_FRAME)
            table = address;
        if (header->p_type == PT_LOAD && search->address - address < header->p_memsz) {
            start = address;
            end = address + header->p_memsz;
        }
    }
    if (!end || !table)
        return 0;
    memset(search->result, 0, sizeof *search->result);
    search->result->map_start = (void *)start;
    search->result->map_end = (void *)end;
    search->result->eh_frame = (void *)table;
    return 1;
}

int _dl_find_object(void *address, struct dl_find_object *result)
{
    struct search search = { (ElfW(Addr))address, result };

    return dl_iterate_phdr(visit, &search) ? 0 : -1;
}
