"""How benches measure: counted system calls, a bare disk, processes that are asked, tables with floors."""
