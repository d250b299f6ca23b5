/*
 * The Windows system table: the driver below Winsock. Windows documents neither its requests nor that the functions
 * that make them will stay. So these are looked up by the caller, who hands them to the calls here, which keep nothing.
 */
#include "sys_win32.h"

#include <mswsock.h>
#include <winternl.h>

#define AFD_POLL 0x00012024u

/* A newer SDK names them; older ones and some of mingw-w64 don't. */
#if !defined(SIO_BASE_HANDLE)
#  define SIO_BASE_HANDLE _WSAIOR(IOC_WS2, 34)
#endif
#if !defined(SIO_BSP_HANDLE)
#  define SIO_BSP_HANDLE _WSAIOR(IOC_WS2, 27)
#endif
#if !defined(SIO_BSP_HANDLE_SELECT)
#  define SIO_BSP_HANDLE_SELECT _WSAIOR(IOC_WS2, 28)
#endif
#if !defined(SIO_BSP_HANDLE_POLL)
#  define SIO_BSP_HANDLE_POLL _WSAIOR(IOC_WS2, 29)
#endif

typedef NTSTATUS(NTAPI *create_file_function)(HANDLE *, ACCESS_MASK, OBJECT_ATTRIBUTES *, IO_STATUS_BLOCK *,
                                              LARGE_INTEGER *, ULONG, ULONG, ULONG, ULONG, void *, ULONG);
typedef NTSTATUS(NTAPI *device_io_control_file_function)(HANDLE, HANDLE, PIO_APC_ROUTINE, void *, IO_STATUS_BLOCK *,
                                                         ULONG, void *, ULONG, void *, ULONG);
typedef NTSTATUS(NTAPI *cancel_io_file_ex_function)(HANDLE, IO_STATUS_BLOCK *, IO_STATUS_BLOCK *);

/* What the driver takes and gives. */
typedef struct afd_poll_info {
    LARGE_INTEGER timeout;
    ULONG count, exclusive;
    struct {
        HANDLE handle;
        ULONG events;
        NTSTATUS status;
    } handles[1];
} afd_poll_info;

#define INFO_OFFSET offsetof(p2p_afd_poll, timeout)
#define SAME_PLACE(ours, theirs) (offsetof(p2p_afd_poll, ours) == INFO_OFFSET + offsetof(afd_poll_info, theirs))

_Static_assert(sizeof(p2p_afd_poll) == INFO_OFFSET + sizeof(afd_poll_info), "p2p_afd_poll ends with the driver's form");
_Static_assert(SAME_PLACE(count, count) && SAME_PLACE(exclusive, exclusive) && SAME_PLACE(base, handles[0].handle) &&
               SAME_PLACE(events, handles[0].events) && SAME_PLACE(event_status, handles[0].status), "and so laid out");
_Static_assert(INFO_OFFSET == sizeof(IO_STATUS_BLOCK) && offsetof(p2p_afd_poll, information) ==
               offsetof(IO_STATUS_BLOCK, Information), "it begins with an IO_STATUS_BLOCK");

/* NTSTATUS to the numbers that the rest of the table gives. */
static int result_of(NTSTATUS status) {
    switch ((ULONG)status) {
    case 0xC0000008u: /* STATUS_INVALID_HANDLE */
    case 0xC0000024u: /* STATUS_OBJECT_TYPE_MISMATCH */
        return -WSAENOTSOCK;
    case 0xC0000010u: /* STATUS_INVALID_DEVICE_REQUEST */
    case 0xC0000034u: /* STATUS_OBJECT_NAME_NOT_FOUND */
    case 0xC000003Au: /* STATUS_OBJECT_PATH_NOT_FOUND */
        return -ERROR_DEV_NOT_EXIST;
    case 0xC0000022u: return -WSAEACCES;             /* STATUS_ACCESS_DENIED */
    case 0xC0000017u: return -WSA_NOT_ENOUGH_MEMORY; /* STATUS_NO_MEMORY */
    case 0xC000009Au: return -WSAENOBUFS;            /* STATUS_INSUFFICIENT_RESOURCES */
    case 0xC000011Fu: return -WSAEMFILE;             /* STATUS_TOO_MANY_OPENED_FILES */
    default: return status < 0 ? -WSASYSCALLFAILURE : 0;
    }
}

p2p_sys_function p2pi_win32_nt_function(const char *name) {
    return (p2p_sys_function)GetProcAddress(GetModuleHandleW(L"ntdll.dll"), name); /* each process has it loaded */
}

/* Below \Device\Afd any name will do. What is opened so is no socket; it only takes questions about sockets. */
int p2pi_win32_afd_open(p2p_sys_function nt_create_file, p2p_handle_t port, p2p_handle_t *out) {
    WCHAR path[] = L"\\Device\\Afd\\p2pnet";
    UNICODE_STRING name = { sizeof(path) - sizeof(path[0]), sizeof(path), path };
    OBJECT_ATTRIBUTES attributes = { .Length = sizeof(attributes), .ObjectName = &name };
    IO_STATUS_BLOCK block;
    HANDLE device;
    NTSTATUS status = ((create_file_function)nt_create_file)(&device, SYNCHRONIZE, &attributes, &block, NULL, 0,
                                                             FILE_SHARE_READ | FILE_SHARE_WRITE, FILE_OPEN, 0, NULL, 0);
    if (status < 0) return result_of(status);
    if (CreateIoCompletionPort(device, (HANDLE)port, 0, 0) == NULL) {
        int result = p2pi_sys_failure();
        CloseHandle(device);
        return result;
    }
    *out = (p2p_handle_t)device;
    return 0;
}

int p2pi_win32_afd_poll(p2p_sys_function nt_device_io_control_file, p2p_handle_t device, p2p_afd_poll *poll) {
    void *info = &poll->timeout;
    ULONG size = sizeof(afd_poll_info);
    return result_of(((device_io_control_file_function)nt_device_io_control_file)(
        (HANDLE)device, NULL, NULL, poll, (IO_STATUS_BLOCK *)poll, AFD_POLL, info, size, info, size));
}

int p2pi_win32_afd_cancel(p2p_sys_function nt_cancel_io_file_ex, p2p_handle_t device, p2p_afd_poll *poll) {
    const ULONG not_found = 0xC0000225u; /* its answer is in the port already */
    IO_STATUS_BLOCK block;
    NTSTATUS status =
        ((cancel_io_file_ex_function)nt_cancel_io_file_ex)((HANDLE)device, (IO_STATUS_BLOCK *)poll, &block);
    return (ULONG)status == not_found ? 0 : result_of(status);
}

int p2pi_win32_lower_socket(p2p_handle_t handle, p2p_sys_lower which, p2p_handle_t *out) {
    static const DWORD questions[] = { SIO_BASE_HANDLE, SIO_BSP_HANDLE_POLL, SIO_BSP_HANDLE_SELECT, SIO_BSP_HANDLE };
    SOCKET lower;
    DWORD size;
    int kind, kind_size = sizeof(kind);
    if (getsockopt(handle, SOL_SOCKET, SO_TYPE, (char *)&kind, &kind_size) < 0 || /* Wine answers for any handle */
        WSAIoctl(handle, questions[which], NULL, 0, &lower, sizeof(lower), &size, NULL, NULL) < 0)
        return p2pi_sys_failure();
    *out = lower;
    return 0;
}
