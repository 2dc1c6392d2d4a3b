package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// servedLab is a lab that serves its page.
type servedLab struct {
	url   string
	end   func()
	ended chan int // the exit code
}

// serveLab serves the page of a lab until the test ends.
func serveLab(t *testing.T, args ...string) *servedLab {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	s := &servedLab{end: cancel, ended: make(chan int, 1)}
	var stderr strings.Builder
	go func() {
		s.ended <- run(ctx, args, in, &stderr)
		in.CloseWithError(io.EOF)
	}()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if m := regexp.MustCompile(`^Open (http://\S+)`).FindStringSubmatch(lines.Text()); m != nil {
			s.url = m[1]
			break
		}
	}
	require.NotEmpty(t, s.url, stderr.String())
	t.Cleanup(func() {
		cancel()
		_, _ = io.Copy(io.Discard, out)
	})
	return s
}

// shots is the environment variable that names a folder for pictures of the page.
const shots = "LIMITERLAB_SHOTS"

// shoot takes a picture, if there is a folder for it.
func (b *browser) shoot(name string) {
	if dir := os.Getenv(shots); dir != "" {
		b.screenshot(filepath.Join(dir, name+".png"))
	}
}

// button is the selector of a button that does something.
func button(do string) string { return fmt.Sprintf("button[data-do=%q]", do) }

// said is a condition: that the page says this of the last button.
func said(text string) string {
	return fmt.Sprintf("document.getElementById('said').textContent.startsWith(%q)", text)
}

// status is a condition: that this is part of the state.
func status(text string) string {
	return fmt.Sprintf("document.getElementById('status').textContent.includes(%q)", text)
}

// lastSecond is a line's tokens per second in the chart's last second.
func lastSecond(line string) string { return fmt.Sprintf("latest(%q)", line) }

// outage is what a line says of the last outage, in times the limit.
func outage(line string) string {
	return fmt.Sprintf("parseFloat(document.querySelector('#lines .%s').cells[2].textContent)", line)
}

// process is one cell of the table of processes.
func process(n, cell int) string {
	return fmt.Sprintf("document.querySelector('tr[data-process=\"%d\"]')?.cells[%d].textContent", n, cell)
}

// TestPage takes a fleet through everything that its page offers. The limit of
// the accuracy is not for this test: what is checked holds on any machine.
func TestPage(t *testing.T) {
	if testing.Short() {
		t.Skip("runs without -short: a browser takes 40 s for it")
	}
	b := newBrowser(t)
	args := []string{"-http", "127.0.0.1:0", "-limit", "300/s burst 30", "-n", "3"}
	lab := serveLab(t, args...)
	b.width(960, 900)
	b.scheme("light")
	b.open(lab.url)
	b.await(status("Redis answers.") + "&&" + status("3 synced"))
	require.Empty(t, b.errors(), "in the console")
	require.True(t, b.truth(next("Press Kill", "[data-do=kill]")))
	b.await("slices.length >= 8")
	checkLabels(t, b)
	checkContrast(t, b)
	b.shoot("before")

	// With keys alone: the first tab stop is Kill, and one sees where one is.
	b.press(keyTab)
	require.True(t, b.truth("document.activeElement.dataset.do === 'kill'"))
	require.True(t, b.truth("getComputedStyle(document.activeElement).outlineStyle === 'solid'"))
	b.press(keyEnter)
	b.await(said("Redis is stopped."))
	b.await(status("Redis is dead.") + "&&" + status("3 degraded"))
	b.await(event(`^[23] processes degraded( in \S+ m?s)?: connection`))
	require.False(t, b.truth(event("prefix=")), "a log line")
	require.True(t, b.truth("document.activeElement.dataset.do === 'kill'"), "the focus stays")
	b.await("state.outages.length === 1 && state.outages[0].on && state.outages[0].to - state.outages[0].from > 4")
	require.True(t, b.truth(outage("closed")+" === 0"))
	require.True(t, b.truth(lastSecond("closed")+" === 0"))
	require.True(t, b.truth(lastSecond("open")+" === "+lastSecond("asked")))
	require.True(t, b.truth(outage("open")+" > 2"))
	require.True(t, b.truth(outage("private")+" > 1.5"))
	var kept float64
	b.eval(outage("admitted"), &kept)
	require.InDelta(t, 1, kept, 0.35, "times the limit")
	b.await(next("Press 10×", `[data-demand="10"]`))
	checkEdge(t, b)
	checkLabels(t, b)
	b.shoot("outage")
	b.scheme("dark")
	b.await("getComputedStyle(document.body).backgroundColor === 'rgb(20, 23, 26)'")
	checkContrast(t, b)
	b.shoot("outage-dark")
	b.scheme("light")

	b.click(button("kill"))
	b.await(said("Redis is dead already."))
	b.click(button("restore"))
	b.await(said("Redis is started again, empty."))
	b.await(status("Redis answers.") + "&&" + status("3 synced"))
	b.await(lastSecond("closed") + " > 0")

	checkOtherFaults(t, b)
	checkLoad(t, b)
	checkFleet(t, b)
	checkDesktop(t, b)
	checkPhone(t, b)
	checkLostLab(t, b, lab, args)
}

// TestPageOfWaitingCallers has callers wait, by the page's switch, takes Redis
// away in both ways, and has callers denied again.
func TestPageOfWaitingCallers(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 20 s in a browser: runs without -short")
	}
	b := newBrowser(t)
	lab := serveLab(t, "-http", "127.0.0.1:0", "-limit", "300/s burst 30", "-n", "3")
	b.width(960, 900)
	b.scheme("light")
	b.open(lab.url)
	b.await(status("3 synced") + "&& slices.length >= 2")
	calls := func(how string) string { return fmt.Sprintf("button[data-calls=%q]", how) }
	pressed := func(how string) string {
		return fmt.Sprintf("document.querySelector('%s').getAttribute('aria-pressed') === 'true'", calls(how))
	}
	const row = "document.querySelector('#lines tr.waiting')"
	require.True(t, b.truth(pressed("allow")+"&&"+row+".hidden"))

	b.click(calls("wait"))
	b.await(said("Callers wait: 3 workers in each process on average"))
	b.await(pressed("wait") + "&&" + status("Callers waiting: ") + "&&" + row + ".checkVisibility()")
	b.click(`button[data-load="even"]`)
	b.await("state.processes.every((p) => p.waiting > 0)")
	for n := 1; n <= 3; n++ {
		b.await("Number(" + process(n, 3) + ") > 0")
	}
	b.await("Number(" + row + ".cells[1].textContent) > 2")
	require.True(t, b.truth("document.getElementById('room').textContent === 'waiting'"))
	b.await(lastSecond("asked") + " === 900")
	b.click(`button[data-demand="3"]`)
	b.await(said("Waiting workers set their own demand"))

	for outages, fault := range []string{"kill", "freeze"} {
		b.click(button(fault))
		b.await(status("3 degraded") + "&&" + status("Callers waiting: "))
		b.await(fmt.Sprintf("state.outages.length === %d && state.outages.at(-1).on && state.outages.at(-1).to - state.outages.at(-1).from > 4", outages+1))
		require.True(t, b.truth(outage("closed")+" === 0"))
		require.True(t, b.truth(outage("open")+" > 2"))
		require.True(t, b.truth(outage("private")+" > 2"))
		var kept, waiting float64
		b.eval(outage("admitted"), &kept)
		require.InDelta(t, 1, kept, 0.35, "times the limit")
		b.eval(fmt.Sprintf("parseFloat(%s.cells[2].textContent)", row), &waiting)
		require.Greater(t, waiting, 2.0)
		b.shoot("waiting-" + fault)
		b.click(button("restore"))
		b.await(status("Redis answers.") + "&&" + status("3 synced"))
		b.await(lastSecond("closed") + " > 0 && " + lastSecond("admitted") + " > 0")
	}

	b.click(`button[data-load="one"]`)
	b.await("state.processes.filter((p) => p.waiting > 2).length === 1 && state.processes.filter((p) => p.waiting === 0).length === 2")
	b.width(390, 844)
	b.await("document.querySelector('#chart canvas')?.clientWidth <= 390")
	require.True(t, b.truth("document.documentElement.scrollWidth <= 390"), "nothing sticks out")
	b.shoot("waiting-phone")
	b.width(960, 900)
	b.click(calls("allow"))
	b.await(said("Callers do not wait: the demand is 3 times the limit."))
	b.await(row + ".hidden && state.processes.every((p) => p.waiting === 0) && !" + status("Callers waiting"))
	b.await("slices.at(-1).waiting === 0")
}

// pictures is the environment variable that makes TestPictures write those of
// docs/lab.md, if it is set.
const pictures = "LIMITERLAB_PICTURES"

// TestPictures takes the lab with its own flags through an outage and writes the
// pictures of docs/lab.md.
func TestPictures(t *testing.T) {
	if os.Getenv(pictures) == "" {
		t.Skip("writes docs/lab/*.png: runs with " + pictures + "=1")
	}
	b := newBrowser(t)
	lab := serveLab(t, "-http", "127.0.0.1:0")
	shoot := func(name string) { b.screenshot("../../docs/lab/" + name + ".png") }
	b.width(1440, 640)
	b.scheme("light")
	b.open(lab.url)
	b.await(status("5 synced") + "&& state.now > 14")
	shoot("before")
	b.click(button("kill"))
	b.await("state.outages[0]?.to - state.outages[0]?.from > 6")
	b.click(`button[data-demand="10"]`)
	b.await("state.outages[0].to - state.outages[0].from > 14")
	shoot("outage")
	b.scheme("dark")
	b.await("getComputedStyle(document.body).backgroundColor === 'rgb(20, 23, 26)'")
	shoot("outage-dark")
	b.scheme("light")
	b.width(390, 844)
	b.await("document.querySelector('#chart canvas')?.clientWidth <= 390")
	shoot("phone")
	b.width(1440, 640)
	b.click(button("restore"))
	b.await("!state.outages[0].on && state.now - state.outages[0].to > 9")
	shoot("after")
	b.click(`button[data-calls="wait"]`)
	b.await("slices.at(-1).waiting > 0 && state.now - state.outages[0].to > 24")
	b.click(button("kill"))
	b.await("state.outages[1]?.to - state.outages[1]?.from > 8")
	shoot("waiting")
}

// checkOtherFaults freezes Redis, slows it down, wipes it.
func checkOtherFaults(t *testing.T, b *browser) {
	b.click(button("freeze"))
	b.await(said("Redis is frozen"))
	b.await(status("frozen") + "&&" + status("3 degraded"))
	b.await(lastSecond("closed") + " === 0")
	b.click(button("slow"))
	b.await(said("Redis is slow"))
	b.await(status("Redis is slow.") + "&&" + status("3 synced"))
	require.True(t, b.truth("state.outages.length === 2 && !state.outages[1].on"))
	b.click(button("wipe"))
	b.await(said("Redis is wiped"))
	b.click(button("restore"))
	b.await(said("Redis is as quick as before."))
	b.await(status("Redis answers.") + "&&" + status("3 synced"))
	b.shoot("after")
}

// checkLoad moves the load and changes the demand.
func checkLoad(t *testing.T, b *browser) {
	pressed := func(selector string) string {
		return fmt.Sprintf("document.querySelector('%s').getAttribute('aria-pressed') === 'true'", selector)
	}
	one := `button[data-load="one"]`
	b.click(one)
	b.await(said("The load moves: process 3 gets all of it."))
	b.await(process(3, 1) + " === '100 %' && " + process(1, 1) + " === '0 %'")
	b.await(pressed(one))
	b.click(one)
	b.await(said("The load moves: process 1 gets all of it."))
	b.click(`button[data-load="even"]`)
	b.await(said("The load moves: all 3 processes get the same."))
	b.await("state.processes.every((p) => p.asked > 150)")
	b.click(`button[data-demand="10"]`)
	b.await(said("The demand is 10 times the limit."))
	b.await(lastSecond("asked") + " > 2400")
	checkScale(t, b)
	b.await(pressed(`button[data-demand="10"]`))
	b.click(`button[data-demand="0.5"]`)
	b.await(lastSecond("asked") + " < 250")
	require.False(t, b.truth(pressed(`button[data-demand="10"]`)))
}

// checkFleet adds a process and stops them all.
func checkFleet(t *testing.T, b *browser) {
	b.click(button("add"))
	b.await(said("Process 4 starts"))
	b.await(status("4 synced"))
	stop := func(n int) {
		b.click(fmt.Sprintf(`tr[data-process="%d"] button`, n))
		b.await(said(fmt.Sprintf("Process %d stops", n)))
		b.await(fmt.Sprintf("!document.querySelector('tr[data-process=\"%d\"]')", n)) // else the rows below move while the next click is on its way
	}
	stop(2)
	b.await(status("3 synced"))
	for _, n := range []int{1, 3, 4} {
		stop(n)
	}
	b.await(status("No process runs") + "&&" + lastSecond("asked") + " === 0")
	require.True(t, b.truth("document.getElementById('processes').hidden"))
	b.click(button("add"))
	b.await(status("1 synced") + "&&" + lastSecond("admitted") + " > 0")
}

// event is a condition: that a line of the events matches a pattern.
func event(pattern string) string {
	return fmt.Sprintf("[...document.querySelectorAll('#events span')].some((e) => new RegExp(%q).test(e.textContent))", pattern)
}

// next is a condition: that the page suggests this, and marks the one button.
func next(text, selector string) string {
	return fmt.Sprintf(`document.getElementById('hint').textContent.includes(%q) &&
		document.querySelectorAll('button.next').length === 1 && document.querySelector('button.next').matches(%q)`, text, selector)
}

// checkEdge looks at the lines where the first outage begins. They jump there, as
// the shading does: fail closed is above 0 up to that instant and at 0 from it on.
func checkEdge(t *testing.T, b *browser) {
	require.True(t, b.truth("points.filter((p) => p.at === state.outages[0].from).length === 2"))
	require.True(t, b.truth("points.filter((p) => p.piece.to <= state.outages[0].from).at(-1).piece.closed > 0"))
	require.True(t, b.truth("points.filter((p) => p.piece.to > state.outages[0].from).every((p) => p.piece.closed === 0)"))
}

// checkScale looks at the axis at a demand of ten times the limit: it is in times
// the limit, and the part up to the limit keeps a quarter of the height.
func checkScale(t *testing.T, b *browser) {
	b.await("chart.axes[1]._values?.includes('10×')")
	require.True(t, b.truth("chart.axes[1]._values.includes('1×')"))
	require.True(t, b.truth("chart.valToPos(place(0), 'y') - chart.valToPos(place(1), 'y') > chart.over.clientHeight / 4"))
}

// checkLabels looks at the labels of the lines: each has one, near its end, in
// the window and clear of the others.
func checkLabels(t *testing.T, b *browser) {
	var labels []struct{ Top, Bottom, Left, Right float64 }
	b.eval("[...document.querySelectorAll('.ends span')].map((e) => e.getBoundingClientRect().toJSON())", &labels)
	require.Len(t, labels, 6)
	var end, window float64
	b.eval("chart.over.getBoundingClientRect().left + chart.valToPos(points.at(-1).at, 'x')", &end)
	b.eval("document.documentElement.clientWidth", &window)
	slices.SortFunc(labels, func(a, b struct{ Top, Bottom, Left, Right float64 }) int { return cmp.Compare(a.Top, b.Top) })
	for i, l := range labels {
		require.InDelta(t, end, l.Left, 30)
		require.LessOrEqual(t, l.Right, window)
		if i > 0 {
			require.GreaterOrEqual(t, l.Top, labels[i-1].Bottom-1)
		}
	}
}

// checkContrast compares the colours of texts, the lines' labels among them, with
// the page's: 4.5 is the least of WCAG for small text.
func checkContrast(t *testing.T, b *browser) {
	const contrast = `Math.min(...['ink', 'soft', 'good', 'bad', 'warn', ...LINES.map((l) => l.name)].map((name) => {
		const light = (hex) => [[1, .2126], [3, .7152], [5, .0722]].reduce((sum, [at, part]) => {
			const c = parseInt(hex.slice(at, at + 2), 16) / 255;
			return sum + part * (c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
		}, .05);
		const [a, b] = [light(color(name)), light(color('page'))];
		return Math.max(a, b) / Math.min(a, b);
	}))`
	var least float64
	b.eval(contrast, &least)
	require.GreaterOrEqual(t, least, 4.5)
}

// checkDesktop looks at the use of a wide window.
func checkDesktop(t *testing.T, b *browser) {
	for _, pixels := range []int{1440, 1920} {
		b.width(pixels, 900)
		b.await(fmt.Sprintf("document.querySelector('main').clientWidth > %d", pixels*9/10))
		require.True(t, b.truth(fmt.Sprintf("document.documentElement.scrollWidth <= %d", pixels)), "nothing sticks out")
		require.True(t, b.truth("document.getElementById('lines').getBoundingClientRect().left > document.getElementById('chart').getBoundingClientRect().right"), "the table is beside the chart")
		require.True(t, b.truth("document.getElementById('chart').getBoundingClientRect().bottom <= innerHeight"), "the chart is seen without scrolling")
		b.await("document.querySelector('#chart canvas')?.clientWidth > 800")
		checkLabels(t, b)
		b.shoot(fmt.Sprintf("desktop-%d", pixels))
	}
	b.width(960, 900)
}

// checkPhone looks at the page on a phone, in the dark and in the light.
func checkPhone(t *testing.T, b *browser) {
	b.width(390, 844)
	for _, scheme := range []string{"light", "dark"} {
		b.scheme(scheme)
		b.await("document.querySelector('#chart canvas')?.clientWidth <= 390")
		require.True(t, b.truth("document.documentElement.scrollWidth <= 390"), "nothing sticks out")
		checkLabels(t, b)
		b.shoot("phone-" + scheme)
	}
	require.True(t, b.truth("getComputedStyle(document.body).backgroundColor === 'rgb(20, 23, 26)'"))
	b.width(960, 900)
}

// checkLostLab ends the lab under the page, and starts another in its place.
func checkLostLab(t *testing.T, b *browser, lab *servedLab, args []string) {
	lab.end()
	require.Equal(t, exitOK, <-lab.ended)
	b.await(status("Connection lost."))
	b.shoot("lost")
	b.click(button("kill"))
	b.await(said("Not connected"))
	args[1] = strings.Trim(strings.TrimPrefix(lab.url, "http://"), "/")
	serveLab(t, args...)
	b.await(status("Redis answers.") + "&&" + status("3 synced"))
	b.await("first === 0 && slices.length >= 2 && slices.length < 20")
}

func TestPageWithoutItsAddress(t *testing.T) {
	lab := serveLab(t, "-http", "localhost:0", "-n", "1")
	require.Contains(t, lab.url, "http://localhost:")
	var stdout, stderr strings.Builder
	taken := strings.Trim(strings.TrimPrefix(lab.url, "http://"), "/")
	require.Equal(t, exitFailed, run(t.Context(), []string{"-http", taken}, &stdout, &stderr))
	require.Contains(t, stderr.String(), "limiterlab: the page: listen tcp")
	lab.end()
	require.Equal(t, exitOK, <-lab.ended)
}

// TestLabGuideExplainsEveryButton: docs/lab.md has a row for each.
func TestLabGuideExplainsEveryButton(t *testing.T) {
	guide, err := os.ReadFile("../../docs/lab.md")
	require.NoError(t, err)
	html, err := os.ReadFile("internal/page/assets/index.html")
	require.NoError(t, err)
	buttons := regexp.MustCompile(`<button [^>]*>([^<]+)</button>`).FindAllStringSubmatch(string(html), -1)
	require.NotEmpty(t, buttons)
	for _, b := range append(buttons, []string{"", "Stop"}) {
		if !regexp.MustCompile(`(?m)^\|.*\*\*` + regexp.QuoteMeta(b[1]) + `\*\*`).Match(guide) {
			t.Errorf("the guide does not explain %s", b[1])
		}
	}
	for _, picture := range regexp.MustCompile(`\]\((lab/[^)]+)\)`).FindAllStringSubmatch(string(guide), -1) {
		info, err := os.Stat("../../docs/" + picture[1])
		require.NoError(t, err)
		require.Less(t, info.Size(), int64(150_000), picture[1])
	}
}
