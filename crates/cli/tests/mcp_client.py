"""A client of the Model Context Protocol: python3 mcp_client.py STEPS COMMAND ARGUMENTS...

STEPS is a JSON array. Prints one line of JSON for each step:
{"list": true} lists the tools; {"call": NAME, "arguments": {}} calls one. With "progress", the
caller wants notifications, and with "leave" it cancels the call after that many of them. "at_once"
calls the tool so many times at once. "read_timeout" limits how long the client waits.
"""

import asyncio
import json
import sys
import time

import anyio
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client


def of_result(result):
    text = "\n".join(block.text for block in result.content)
    return {"is_error": result.is_error, "text": text, "structured": result.structured_content}


async def call(session, step):
    start, progress, results = time.monotonic(), [], []

    async def notified(done, total, message):
        progress.append([done, total, message])
        if len(progress) == step.get("leave"):
            group.cancel_scope.cancel()

    async def one():
        notify = notified if step.get("progress") else None
        timeout = step.get("read_timeout")
        result = await session.call_tool(step["call"], step.get("arguments", {}), timeout, notify)
        results.append(of_result(result))

    async with anyio.create_task_group() as group:
        for _ in range(step.get("at_once", 1)):
            group.start_soon(one)
    said = {**results[0], "all": results} if results else {"cancelled": True}
    return {**said, "progress": progress, "seconds": time.monotonic() - start}


async def main():
    steps, command, *arguments = sys.argv[1:]
    server = StdioServerParameters(command=command, args=arguments)
    async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        for step in json.loads(steps):
            if "list" in step:
                tools = (await session.list_tools()).tools
                said = [tool.model_dump(by_alias=True, exclude_none=True) for tool in tools]
            elif "sleep" in step:
                await asyncio.sleep(step["sleep"])
                continue
            else:
                said = await call(session, step)
            print(json.dumps(said), flush=True)


asyncio.run(main())
