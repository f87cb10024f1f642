// A walk through the front end in Firefox, by WebDriver BiDi: standard input has what it needs.
import process from "node:process"
import puppeteer from "puppeteer-core"

const { executable, profile, url, axe, login, password, thing } = JSON.parse(await text(process.stdin))
const browser = await puppeteer.launch({
	browser: "firefox",
	executablePath: executable,
	userDataDir: profile,
	headless: true,
})
const faults = []
try {
	const page = await browser.newPage()
	page.setDefaultTimeout(20_000) // milliseconds
	page.on("pageerror", (error) => faults.push(String(error)))
	const button = (name) => page.locator(`::-p-aria([name="${name}"][role="button"])`)
	const fill = (name, value) => page.locator(`input[name=${name}]`).fill(value)
	const says = (words) => page.locator(`#messages ::-p-text(${words})`).wait()
	const look = async (name) => {
		const found = await page.evaluate(`${axe}; axe.run().then((found) => found.violations)`)
		for (const { id, nodes } of found) faults.push(`${name}: ${id} ${nodes[0].html}`)
	}

	await page.goto(url)
	await page.locator("input[name=username]").wait()
	await look("sign-in")
	await fill("username", login)
	await fill("password", password)
	await page.keyboard.press("Enter")
	await page.locator(`#who ::-p-text(${login})`).wait()

	const field = await page.$("input[name=stuff]")
	if (!(await field?.isVisible())) await button("Add stuff").click()
	await fill("stuff", thing)
	await fill("price", "5")
	await page.keyboard.press("Enter")
	await says(`${thing} is added`)
	await page.locator("main li .value").click()
	await page.locator("main li input").fill("7.5")
	await page.keyboard.press("Enter")
	await says(`${thing} is now 7.50`)
	await look("stuff")

	await page.reload() // the cookie keeps the session
	await page.locator(`#who ::-p-text(${login})`).wait()
	await button("Sign out").click()
	await page.locator("input[name=username]").wait()
	await page.reload()
	await page.locator("input[name=username]").wait()
} finally {
	await browser.close()
}
console.log(JSON.stringify({ version: await browser.version().catch(() => ""), faults }))

async function text(stream) {
	stream.setEncoding("utf8")
	let all = ""
	for await (const part of stream) all += part
	return all
}
